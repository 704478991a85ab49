//! Colour, on a terminal alone.

use std::io::IsTerminal;

/// What something is marked by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red,
    Green,
}

/// The text, in that colour if it goes to a terminal and nobody has said `NO_COLOR`.
pub(crate) fn painted(to: &impl IsTerminal, colour: Colour, text: &str) -> String {
    let plain = !to.is_terminal() || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let number = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
    };
    if plain { text.to_owned() } else { format!("\x1b[{number}m{text}\x1b[0m") }
}
