//! Bytes on their way, no more than there is room for.

/// What one direction holds when its reader is slower than its writer; a pseudoterminal gives 4 KiB at a time.
const CAPACITY: usize = 16 << 10;

/// A queue of bytes.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8; CAPACITY]>,
    first: usize,
    end: usize,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: Box::new([0; CAPACITY]), first: 0, end: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first == self.end
    }

    pub(crate) fn free(&self) -> usize {
        CAPACITY - (self.end - self.first)
    }

    /// Room for more. How much of it is filled [`filled`](Self::filled) says.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.first..self.end, 0);
        self.end -= self.first;
        self.first = 0;
        &mut self.bytes[self.end..]
    }

    pub(crate) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// What waits. How much of it is gone [`taken`](Self::taken) says.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.bytes[self.first..self.end]
    }

    pub(crate) fn taken(&mut self, count: usize) {
        self.first += count;
    }

    pub(crate) fn clear(&mut self) {
        self.first = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_room_comes_back() {
        let mut buffer = Buffer::new();
        let (mut put, mut got) = (0u8, 0u8);
        for round in 1..500 {
            let count = (round * 37 % 4000).min(buffer.free());
            buffer.room()[..count].fill_with(|| {
                put = put.wrapping_add(1);
                put
            });
            buffer.filled(count);
            assert_eq!(buffer.waiting().len() + buffer.free(), CAPACITY);
            let count = (round * 53 % 4000).min(buffer.waiting().len());
            for &byte in &buffer.waiting()[..count] {
                got = got.wrapping_add(1);
                assert_eq!(byte, got);
            }
            buffer.taken(count);
        }
        buffer.clear();
        assert!(buffer.is_empty() && buffer.free() == CAPACITY && buffer.room().len() == CAPACITY);
    }
}
