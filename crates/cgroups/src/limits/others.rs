//! Huge pages, and what else machines have few of.

use super::Limits;
use crate::Bytes;

/// What a group wants of the controllers hugetlb, misc and rdma.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub(crate) struct Others {
    /// By the size of the page.
    pub(crate) huge: Vec<(Bytes, Bytes)>,
    pub(crate) misc: Vec<(String, u64)>,
    /// Device, handles, objects.
    pub(crate) rdma: Vec<(String, [u32; 2])>,
}

impl Limits {
    /// The most memory in huge pages of a size. Rounded down to whole pages. `hugetlb.SIZE.max`, Linux 5.6.
    ///
    /// ```
    /// use isolate_cgroups::{Bytes, Limits};
    ///
    /// Limits::new().huge_pages(Bytes::mib(2), Bytes::mib(64)).validate()?;
    /// # Ok::<(), isolate_cgroups::Error>(())
    /// ```
    pub fn huge_pages(mut self, size: impl Into<Bytes>, most: impl Into<Bytes>) -> Self {
        self.others.huge.push((size.into(), most.into()));
        self
    }

    /// The most of a resource that the kernel names in `misc.capacity`, such as `sev` or `sgx_epc`. `misc.max`, Linux 5.13.
    pub fn misc(mut self, resource: impl Into<String>, most: u64) -> Self {
        self.others.misc.push((resource.into(), most));
        self
    }

    /// The most handles and objects of an RDMA device; `u32::MAX` for no limit. `rdma.max`, Linux 4.11.
    pub fn rdma(mut self, device: impl Into<String>, handles: u32, objects: u32) -> Self {
        self.others.rdma.push((device.into(), [handles, objects]));
        self
    }
}

/// A page's size in the name of a file: `2MB`, `1GB` (mm/hugetlb_cgroup.c).
pub(crate) fn page(size: Bytes) -> String {
    let size = size.get();
    match size {
        _ if size >= 1 << 30 => format!("{}GB", size >> 30),
        _ if size >= 1 << 20 => format!("{}MB", size >> 20),
        _ => format!("{}KB", size >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_the_kernels_names() {
        assert_eq!(page(Bytes::mib(2)), "2MB");
        assert_eq!(page(Bytes::gib(1)), "1GB");
        assert_eq!(page(Bytes::kib(64)), "64KB");
    }
}
