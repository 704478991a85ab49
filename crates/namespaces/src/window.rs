//! How large a terminal's window is.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::{Winsize, tcgetwinsize};

/// The size of a terminal's window, in characters (TIOCGWINSZ(2const)). A size of 0 means that nobody has set one.
///
/// ```
/// use isolate_namespaces::WindowSize;
///
/// let wide = WindowSize::new(50, 200);
/// assert_eq!(wide.columns, 200);
/// assert_eq!(WindowSize::default(), WindowSize::new(24, 80));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl WindowSize {
    /// So many lines of so many characters.
    #[must_use]
    pub const fn new(rows: u16, columns: u16) -> Self {
        Self { rows, columns }
    }

    /// That of the terminal on standard input.
    ///
    /// # Errors
    ///
    /// ENOTTY: it is not a terminal. A caller that has a size for this case says
    /// `WindowSize::of_stdin().unwrap_or_default()`.
    pub fn of_stdin() -> io::Result<Self> {
        Self::of(&io::stdin())
    }

    /// That of any terminal, of either side of a pseudoterminal. Needs no privilege.
    ///
    /// # Errors
    ///
    /// ENOTTY: it is not a terminal.
    pub fn of(terminal: &impl AsFd) -> io::Result<Self> {
        let Winsize { ws_row, ws_col, .. } = tcgetwinsize(terminal)?;
        Ok(Self::new(ws_row, ws_col))
    }

    /// For the kernel. The size in pixels is not known: 0.
    pub(crate) fn to_kernel(self) -> Winsize {
        Winsize { ws_row: self.rows, ws_col: self.columns, ws_xpixel: 0, ws_ypixel: 0 }
    }
}

/// What a terminal has of which nothing is known (a VT100's).
impl Default for WindowSize {
    fn default() -> Self {
        Self::new(24, 80)
    }
}
