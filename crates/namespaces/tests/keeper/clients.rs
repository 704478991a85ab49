//! Who may ask, and what others say on the socket.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use isolate_namespaces::{Command, ErrorKind, Keeper, Kept, Restart, Signal};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use testkit::{Need, kernel_test};

use super::{Place, no_children_are_left, open, sh};

fn connected(place: &Place) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    loop {
        match connect(&socket, &SocketAddrUnix::new(place.0.join("socket")).unwrap()) {
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(1)),
            done => {
                done.unwrap();
                return socket;
            }
        }
    }
}

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn whatever_is_said_on_the_socket_the_keeper_goes_on() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let child = sh("cat > /dev/null").stdin(isolate_namespaces::Stdio::piped()).spawn().unwrap();
        child.hand_over(&place.keeper().log(1 << 20, 1)).unwrap();
        let id = place.kept().state().unwrap().pid;
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for round in 0..400 {
            let socket = connected(&place);
            for _ in 0..numbers.next() % 6 {
                let length = [0, 1, 2, 5, 4097, 4098, 60_000][(numbers.next() % 7) as usize];
                let mut packet: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
                if round % 2 == 0
                    && let Some(first) = packet.first_mut()
                {
                    // Not the requests that close its input or end its restarts for good: those do what they say.
                    *first = *b"spwraiz".get((numbers.next() % 7) as usize).unwrap();
                }
                if packet.first() == Some(&b'c') {
                    continue;
                }
                send(&socket, &packet, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).ok();
            }
        }
        let state = place.kept().state().unwrap();
        assert_eq!((state.pid, state.restarts), (id, 0));
        place.end();
        no_children_are_left();
    });
}

#[test]
fn sixteen_are_served_and_the_next_one_is_told() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let mut waiters: Vec<_> = (0..16).map(|_| place.kept().waiter().unwrap()).collect();
        let error = place.kept().state().unwrap_err();
        assert_eq!(
            (error.kind(), error.hint()),
            (ErrorKind::Lost, Some("16 clients are the most at a time"))
        );
        waiters.pop();
        assert!(place.kept().signal(Signal::KILL).unwrap(), "one has gone");
        for waiter in waiters {
            waiter.wait().unwrap();
        }
        no_children_are_left();
    });
}

const HELPER: &str = "ISOLATE_KEEPER_STRANGER";

/// Not a test: another user's process that asks.
#[test]
fn helper() {
    let Ok(directory) = std::env::var(HELPER) else { return };
    let kept = Kept::new(open(directory.as_ref()));
    if directory.ends_with("/own") {
        let plan = sh("echo mine; exit 3").plan().unwrap();
        let keeper = Keeper::new(open(directory.as_ref())).log(1 << 20, 1);
        let keeper = keeper.restart(Restart::OnFailure { most: Some(1) }).replay(&plan);
        plan.spawn().unwrap().hand_over(&keeper).unwrap();
        let end = kept.wait().unwrap();
        println!("\nanswer: {:?} {}", end.end, end.restarts);
        return;
    }
    println!("\nanswer: {:?}", kept.state().map(|state| state.status).map_err(|e| e.kind()));
}

/// This one, where other users can execute it.
fn program(place: &Place) -> PathBuf {
    let program = place.0.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&place.0, &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    program
}

fn answer(program: &Path, user: u32, directory: &Path) -> String {
    let mut command = Command::new(program);
    command.args(["--exact", "clients::helper", "--nocapture"]).env(HELPER, directory);
    let output = command.uid(user).gid(user).groups([]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    text.lines().find_map(|line| line.strip_prefix("answer: ").map(str::to_owned)).expect(&(text + &error))
}

#[test]
fn an_ordinary_user_has_keepers_too() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        let (program, own) = (program(&place), place.0.join("own"));
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::chown(&own, Some(65_534), Some(65_534)).unwrap();
        assert_eq!(answer(&program, 65_534, &own), "Some(Code(3)) 1");
        let log = fs::read_to_string(own.join("log")).unwrap();
        assert_eq!(log.matches(" stdout F mine\n").count(), 2);
    });
}

#[test]
fn another_user_is_not_answered_even_if_the_socket_lets_him_in() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let socket = place.0.join("socket");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(place.0.join("state")).unwrap().permissions().mode() & 0o777, 0o600);
        let program = program(&place);
        let asks = |user| answer(&program, user, &place.0);
        assert_eq!(asks(0), "Ok(Running)");
        assert_eq!(asks(65_534), "Err(PermissionDenied)");
        fs::set_permissions(&socket, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(asks(65_534), "Err(Lost)");
        assert_eq!(asks(0), "Ok(Running)");
        place.end();
        no_children_are_left();
    });
}

#[test]
fn in_one_directory_one_keeper_is_at_work() {
    kernel_test(&[Need::Root], || {
        let place = Place::new();
        sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap();
        let error = sh("exec sleep 1000").spawn().unwrap().hand_over(&place.keeper()).unwrap_err();
        assert_eq!(error.to_string(), "another keeper is at work in that directory");
        place.end();
        let error = Kept::new(open(&testkit::scratch())).state().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(place.kept().attach().unwrap_err().kind(), ErrorKind::InvalidInput);
        no_children_are_left();
    });
}
