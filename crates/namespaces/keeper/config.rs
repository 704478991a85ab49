//! What the library gives to the keeper, and what both say on the socket in its directory. Compiled into both.
//!
//! ```text
//! Config | descriptors of the lists, four bytes each
//! ```
//! Descriptors have the numbers that they have in the library's process; -1 where there is none.

/// First word; the last two digits are the format's version.
pub(crate) const MAGIC: u32 = 0x4953_4b01;

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Config {
    pub magic: u32,
    pub directory: i32,
    /// Listens.
    pub socket: i32,
    /// The caller's end of the control socket, and with it the lifeline.
    pub control: i32,
    /// Pidfds of the monitor and of the program.
    pub monitor: i32,
    pub program: i32,
    pub pid: i32,
    /// The writing end of the program's standard input, the reading ends of the others, or the master of its terminal.
    pub stdin: i32,
    pub stdout: i32,
    pub stderr: i32,
    pub terminal: i32,
    /// An open memory.events or memory.oom_control.
    pub memory: i32,
    /// The launcher's memory file.
    pub launcher: i32,
    /// Numbers that the encoded plans have for the control socket and the report; nothing of use is behind them here.
    pub control_number: i32,
    pub report_number: i32,
    /// One of the three below.
    pub restart: u32,
    /// Restarts, at most; 0: any number.
    pub most: u32,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Files of the log; 0: no log.
    pub log_files: u32,
    pub replay: Again,
    pub check: Again,
    /// Descriptors of the check's plan that are pidfds of the program: they are replaced with each start.
    pub renewed: List,
    /// Open tasks files of cgroup v1 that the keeper writes itself into.
    pub groups: List,
    /// The memory file that this is in.
    pub own: i32,
    pub log_bytes: u64,
    /// As `memory` said it before the start.
    pub oom_kills: u64,
    /// What the start has used in the child, in µs.
    pub began_user: u64,
    pub began_system: u64,
    /// When the program was started: CLOCK_REALTIME and CLOCK_MONOTONIC, in ns.
    pub started: u64,
    pub began: u64,
    /// In ns. `start_interval` 0: as `interval`.
    pub interval: u64,
    pub timeout: u64,
    pub start_period: u64,
    pub start_interval: u64,
}

impl Config {
    /// Nothing yet.
    pub(crate) const NONE: Self = Self {
        magic: MAGIC,
        directory: -1,
        socket: -1,
        control: -1,
        monitor: -1,
        program: -1,
        pid: -1,
        stdin: -1,
        stdout: -1,
        stderr: -1,
        terminal: -1,
        memory: -1,
        launcher: -1,
        control_number: -1,
        report_number: -1,
        restart: RESTART_NEVER,
        most: 0,
        retries: 0,
        log_files: 0,
        replay: Again::NONE,
        check: Again::NONE,
        renewed: List::NONE,
        groups: List::NONE,
        own: -1,
        log_bytes: 0,
        oom_kills: 0,
        began_user: 0,
        began_system: 0,
        started: 0,
        began: 0,
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
    };

    /// Before it is read.
    pub(crate) const ZERO: Self = Self {
        magic: 0,
        directory: 0,
        socket: 0,
        control: 0,
        monitor: 0,
        program: 0,
        pid: 0,
        stdin: 0,
        stdout: 0,
        stderr: 0,
        terminal: 0,
        memory: 0,
        launcher: 0,
        control_number: 0,
        report_number: 0,
        restart: RESTART_NEVER,
        most: 0,
        retries: 0,
        log_files: 0,
        replay: Again { plan: 0, length: 0, keep: List::NONE },
        check: Again { plan: 0, length: 0, keep: List::NONE },
        renewed: List::NONE,
        groups: List::NONE,
        own: 0,
        log_bytes: 0,
        oom_kills: 0,
        began_user: 0,
        began_system: 0,
        started: 0,
        began: 0,
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
    };
}

/// A plan that is carried out again.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Again {
    /// A memory file, or -1: there is no plan.
    pub plan: i32,
    pub length: u32,
    /// What the launcher inherits.
    pub keep: List,
}

impl Again {
    pub(crate) const NONE: Self = Self { plan: -1, length: 0, keep: List::NONE };
}

/// Descriptors, at a place in the bytes of the configuration.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct List {
    pub at: u32,
    pub count: u32,
}

impl List {
    pub(crate) const NONE: Self = Self { at: 0, count: 0 };
}

const _: () = assert!(size_of::<Config>() == 32 * 4 + 10 * 8, "no padding");

pub(crate) const RESTART_NEVER: u32 = 0;
pub(crate) const RESTART_ON_FAILURE: u32 = 1;
pub(crate) const RESTART_ALWAYS: u32 = 2;

/// The smallest size of a log file: a page and the beginnings of its lines fit.
pub(crate) const LEAST_LOG: u64 = 16 << 10;
/// The most files of a log.
pub(crate) const MOST_FILES: u32 = 100;
/// Clients at a time.
pub(crate) const MOST_CLIENTS: usize = 16;

/// The longest state, in bytes.
pub(crate) const STATE_ROOM: usize = 768;
/// The most bytes of a line in one piece of the log, and of output in one packet.
pub(crate) const LINE: usize = 3072;
/// The most bytes of input in one packet, and the most that a client makes room for. A pipe takes so many or none (PIPE_BUF, pipe(7)).
pub(crate) const PIECE: usize = 4096;

/// Requests: the first byte of a packet. What is not known ends the connection.
///
/// The state.
pub(crate) const ASK_STATE: u8 = b's';
/// The state; the pidfds of program and monitor come along while there is a program.
pub(crate) const ASK_PIDFDS: u8 = b'p';
/// An `ENDED` when it has ended for good.
pub(crate) const ASK_WAIT: u8 = b'w';
/// No more restarts; the state, after that.
pub(crate) const ASK_STOP: u8 = b'x';
/// The next end is followed by a start at once; the state, or `REFUSED` where there is no plan for one.
pub(crate) const ASK_RESTART: u8 = b'r';
/// One of the three restarts, and how many at most, four bytes, little-endian: from the next end on; the state, or `REFUSED` where there is
/// no plan for one.
pub(crate) const ASK_POLICY: u8 = b'y';
/// A descriptor that comes along is kept open until the end; the state.
pub(crate) const ASK_HOLD: u8 = b'h';
/// The state, and from then on output. The four below are for who has sent it.
pub(crate) const ASK_ATTACH: u8 = b'a';
/// Bytes for standard input or the terminal.
pub(crate) const INPUT: u8 = b'i';
/// Standard input is closed.
pub(crate) const CLOSE_INPUT: u8 = b'c';
/// Rows and columns of the terminal, two bytes each, little-endian.
pub(crate) const RESIZE: u8 = b'z';

/// Answers: the first byte of a packet.
///
/// Output, as it was written.
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
/// The state, as text.
pub(crate) const STATE: u8 = b'S';
/// It has ended for good; the state, as text. The last packet.
pub(crate) const ENDED: u8 = b'E';
/// Bytes of output that were lost since the last packet, in decimal: the client did not read.
pub(crate) const LOST: u8 = b'L';
pub(crate) const REFUSED: u8 = b'N';
