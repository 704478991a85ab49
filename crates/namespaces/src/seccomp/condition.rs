//! What an argument of a system call must be.

/// What an argument of a system call must be for a rule to hold. Arguments are counted from 0 to 5, as the kernel takes
/// them (syscalls(2)): not always as libc's function does.
///
/// A filter sees registers of 64 bits. Where the kernel takes an `int` it looks at the low half alone, and so must the
/// filter: one that compares 64 bits refuses `socket(40, ..)` and lets `socket(40 + (1 << 32), ..)` pass, which is the
/// same to the kernel. So 32 bits are the rule, and the forms for 64 are for what the kernel takes as `long` or `size_t`.
/// What a pointer points to, no filter can see.
///
/// ```
/// use isolate_namespaces::SeccompCondition;
/// # let (clone_newuser, tiocsti) = (0x1000_0000, 0x5412);
/// let pushes_a_character = SeccompCondition::equals(1, tiocsti); // of ioctl
/// let makes_a_user_namespace = SeccompCondition::masked(0, clone_newuser, clone_newuser); // of clone
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a condition is of use in a rule"]
pub struct SeccompCondition {
    pub(super) argument: u8,
    /// Whether the high half is looked at.
    pub(super) wide: bool,
    pub(super) mask: u64,
    pub(super) value: u64,
    /// Whether it holds where the bits below the mask are something else.
    pub(super) negated: bool,
}

impl SeccompCondition {
    /// The low 32 bits of the argument are this value.
    pub fn equals(argument: u8, value: u32) -> Self {
        Self::masked(argument, u32::MAX, value)
    }

    /// The low 32 bits of the argument are not this value.
    pub fn differs(argument: u8, value: u32) -> Self {
        Self { negated: true, ..Self::equals(argument, value) }
    }

    /// Those bits of the argument that are set in `mask` are as in `value`. A value with other bits is refused when the
    /// filter is built: it would never hold.
    pub fn masked(argument: u8, mask: u32, value: u32) -> Self {
        let (mask, value) = (u64::from(mask), u64::from(value));
        Self { argument, wide: false, mask, value, negated: false }
    }

    /// As [`equals`](Self::equals), with all 64 bits.
    pub fn equals64(argument: u8, value: u64) -> Self {
        Self::masked64(argument, u64::MAX, value)
    }

    /// As [`differs`](Self::differs), with all 64 bits.
    pub fn differs64(argument: u8, value: u64) -> Self {
        Self { negated: true, ..Self::equals64(argument, value) }
    }

    /// As [`masked`](Self::masked), with all 64 bits.
    pub fn masked64(argument: u8, mask: u64, value: u64) -> Self {
        Self { argument, wide: true, mask, value, negated: false }
    }

    /// Why it cannot be, if so.
    pub(super) fn fault(&self) -> Option<String> {
        if self.argument > 5 {
            Some(format!("argument {}: they are counted from 0 to 5", self.argument))
        } else if self.value & !self.mask != 0 {
            Some(format!(
                "argument {}: {:#x} has bits outside the mask {:#x}",
                self.argument, self.value, self.mask
            ))
        } else {
            None
        }
    }
}
