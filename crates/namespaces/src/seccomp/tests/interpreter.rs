//! Classic BPF as the kernel carries it out for seccomp (`bpf_check_classic`, `seccomp_check_filter`, `run_bpf`).

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
};

use crate::seccomp::Seccomp;
use crate::seccomp::assemble::NATIVE;

/// What a filter sees of one system call (seccomp_data(2)).
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) architecture: u32,
    pub(super) number: u32,
    pub(super) arguments: [u64; 6],
}

/// What it says, and how many comparisons that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) word: u32,
    pub(super) comparisons: usize,
}

#[derive(Clone, Copy)]
struct Instruction {
    code: u32,
    jt: usize,
    jf: usize,
    k: u32,
}

impl Call {
    pub(super) fn native(number: u32, arguments: [u64; 6]) -> Self {
        Self { architecture: NATIVE, number, arguments }
    }

    fn word(&self, offset: u32) -> u32 {
        match offset {
            0 => self.number,
            4 => self.architecture,
            16..64 => (self.arguments[(offset as usize - 16) / 8] >> (8 * (offset % 8))) as u32,
            _ => panic!("a load at {offset}"),
        }
    }
}

pub(super) fn answer(filter: &Seccomp, call: Call) -> Answer {
    let program = decode(filter);
    let (mut at, mut accumulator, mut comparisons) = (0, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        if code == BPF_LD | BPF_W | BPF_ABS {
            accumulator = call.word(k);
        } else if code == BPF_ALU | BPF_AND | BPF_K {
            accumulator &= k;
        } else if code == BPF_JMP | BPF_JA | BPF_K {
            at += k as usize;
        } else if code == BPF_RET | BPF_K {
            return Answer { word: k, comparisons };
        } else {
            comparisons += 1;
            at += if compare(code, accumulator, k) { jt } else { jf };
        }
    }
}

fn compare(code: u32, accumulator: u32, k: u32) -> bool {
    match code & !(BPF_JMP | BPF_K) {
        BPF_JEQ => accumulator == k,
        BPF_JGE => accumulator >= k,
        BPF_JSET => accumulator & k != 0,
        _ => panic!("the instruction {code:#x}"),
    }
}

/// Refuses what the kernel refuses.
pub(super) fn verify(filter: &Seccomp) {
    let program = decode(filter);
    assert!((1..=4096).contains(&program.len()));
    assert_eq!(program[program.len() - 1].code, BPF_RET | BPF_K, "the last instruction");
    for (at, &Instruction { code, jt, jf, k }) in program.iter().enumerate() {
        if code == BPF_LD | BPF_W | BPF_ABS {
            assert!(k % 4 == 0 && k < 64, "{at}: a load at {k}");
        } else if code == BPF_JMP | BPF_JA | BPF_K {
            assert!(at + 1 + (k as usize) < program.len(), "{at}: a jump by {k}");
        } else if code & 7 == BPF_JMP {
            assert!(at + 1 + jt.max(jf) < program.len(), "{at}: a branch by {jt} and {jf}");
        }
    }
}

fn decode(filter: &Seccomp) -> Vec<Instruction> {
    let (instructions, rest) = filter.program().as_chunks::<8>();
    assert!(rest.is_empty() && instructions.len() == filter.len());
    instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u32::from(u16::from_ne_bytes([c0, c1])),
            jt: jt.into(),
            jf: jf.into(),
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect()
}
