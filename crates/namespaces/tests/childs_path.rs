//! What runs between the clone and the exec calls neither libc nor an allocator: the machine code of this very program says so.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the disassembler is another program")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use testkit::{Need, kernel_test};

/// What each function of this program calls or jumps to, by the names that objdump shows.
fn calls() -> BTreeMap<String, BTreeSet<String>> {
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new("objdump").args(["-d", "-C", "--no-show-raw-insn"]).arg(program).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let functions: BTreeMap<u64, &str> = text.lines().filter_map(function).collect();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((_, name)) = function(line) {
            current = name.to_owned();
            all.entry(current.clone()).or_default();
        } else if let Some(to) =
            line.split_once(":\t").and_then(|(_, instruction)| target(instruction, &functions))
            && to != current
        {
            all.entry(current.clone()).or_default().insert(to);
        }
    }
    all
}

fn function(line: &str) -> Option<(u64, &str)> {
    let (address, name) = line.strip_suffix(">:")?.split_once(" <")?;
    Some((u64::from_str_radix(address, 16).ok()?, name))
}

/// Where an instruction leads out of its function: by a name, or by a place in the table of addresses, which is looked up in this
/// running program.
fn target(instruction: &str, functions: &BTreeMap<u64, &str>) -> Option<String> {
    let mnemonic = instruction.split_whitespace().next()?;
    if let Some((code, place)) = instruction.split_once('#') {
        let table = code.contains("(%rip)") && matches!(mnemonic, "call" | "jmp" | "mov");
        let address = u64::from_str_radix(place.split_whitespace().next()?, 16).ok()?;
        let known = place.contains("_DYNAMIC") || place.contains("_GLOBAL_OFFSET_TABLE_");
        return (table && known).then(|| in_memory(address, functions));
    }
    if !mnemonic.starts_with("call") && !mnemonic.starts_with('j') {
        return None;
    }
    match instruction.split_once('<') {
        Some((_, to)) => Some(to.trim_end_matches('>').split("+0x").next()?.to_owned()),
        // Through a register that was loaded from the table.
        None if instruction.contains("*%r") => None,
        None => Some(format!("by a pointer: {}", instruction.trim())),
    }
}

/// The function whose address the running program has at this place of its file.
fn in_memory(place: u64, functions: &BTreeMap<u64, &str>) -> String {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let base = u64::from_str_radix(maps.split('-').next().unwrap(), 16).unwrap();
    let mut word = [0; 8];
    std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut word, base + place).unwrap();
    let found = u64::from_ne_bytes(word).wrapping_sub(base);
    functions
        .get(&found)
        .map_or_else(|| format!("outside of the program: {found:x}"), |name| (*name).to_owned())
}

/// Everything that can be reached from `start`, which is found by the end of its name.
fn reached(calls: &BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<String> {
    let mut waiting: Vec<String> = calls.keys().filter(|name| name.ends_with(start)).cloned().collect();
    assert!(!waiting.is_empty(), "{start} is in this program");
    let mut seen = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        // Checks of a debug build, of arithmetic and pointers; what follows one is the end.
        let end = name.starts_with("core::panicking::");
        if seen.insert(name.clone()) && !end {
            waiting.extend(calls.get(&name).into_iter().flatten().cloned());
        }
    }
    seen
}

/// Of the standard library's core, which neither allocates nor knows an operating system, and of our own.
fn is_allowed(name: &str) -> bool {
    let name = name.trim_start_matches('<');
    let ours = ["clone", "sys", "wire"].map(|module| format!("isolate_namespaces::{module}::"));
    name.starts_with("core::") || ours.iter().any(|module| name.starts_with(module))
}

#[test]
fn after_the_clone_neither_libc_nor_an_allocator_is_called() {
    kernel_test(&[Need::Root, Need::Program("objdump")], || {
        // It is part of the program because it is used.
        isolate_namespaces::Command::new("/bin/true").status().unwrap();
        let calls = calls();
        let childs = reached(&calls, "isolate_namespaces::clone::child");
        let others: Vec<_> = childs.iter().filter(|name| !is_allowed(name)).collect();
        assert_eq!(others, Vec::<&String>::new(), "of {childs:?}");
        // The control: a function that does both is seen to.
        let callers = reached(&calls, "isolate_namespaces::spawn::start");
        assert!(callers.iter().any(|name| !is_allowed(name) && name.contains("alloc")), "{callers:?}");
    });
}
