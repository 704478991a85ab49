//! Any rules, compiled and carried out, say what the rules say.

use std::collections::HashSet;
use std::sync::LazyLock;

use proptest::prelude::*;

use super::interpreter::{Call, answer, verify};
use crate::seccomp::{Seccomp, SeccompAction, SeccompCondition, numbers};

/// The rules once more, in the simplest form.
#[derive(Clone, Debug)]
struct Rule {
    number: u32,
    conditions: Vec<Condition>,
    action: SeccompAction,
}

#[derive(Clone, Copy, Debug)]
enum Condition {
    Equals(u8, u32),
    Differs(u8, u32),
    Masked(u8, u32, u32),
    Equals64(u8, u64),
    Differs64(u8, u64),
    Masked64(u8, u64, u64),
}

impl Condition {
    fn holds(self, arguments: [u64; 6]) -> bool {
        let long = |index: u8| arguments[usize::from(index)];
        let int = |index: u8| long(index) as u32;
        match self {
            Self::Equals(index, value) => int(index) == value,
            Self::Differs(index, value) => int(index) != value,
            Self::Masked(index, mask, value) => int(index) & mask == value,
            Self::Equals64(index, value) => long(index) == value,
            Self::Differs64(index, value) => long(index) != value,
            Self::Masked64(index, mask, value) => long(index) & mask == value,
        }
    }

    fn compiled(self) -> SeccompCondition {
        match self {
            Self::Equals(index, value) => SeccompCondition::equals(index, value),
            Self::Differs(index, value) => SeccompCondition::differs(index, value),
            Self::Masked(index, mask, value) => SeccompCondition::masked(index, mask, value),
            Self::Equals64(index, value) => SeccompCondition::equals64(index, value),
            Self::Differs64(index, value) => SeccompCondition::differs64(index, value),
            Self::Masked64(index, mask, value) => SeccompCondition::masked64(index, mask, value),
        }
    }
}

fn expected(default: SeccompAction, rules: &[Rule], number: u32, arguments: [u64; 6]) -> SeccompAction {
    let not_there = SeccompAction::Errno(libc::ENOSYS);
    let through = matches!(default, SeccompAction::Allow | SeccompAction::Log);
    static KNOWN: LazyLock<HashSet<u32>> = LazyLock::new(|| numbers::known().collect());
    if number >= 1 << 30 {
        return not_there;
    }
    let holds = |rule: &&Rule| {
        rule.number == number && rule.conditions.iter().all(|condition| condition.holds(arguments))
    };
    match rules.iter().rev().find(holds) {
        Some(rule) => rule.action,
        None if through || KNOWN.contains(&number) => default,
        None => not_there,
    }
}

fn action() -> impl Strategy<Value = SeccompAction> {
    use SeccompAction::{Allow, Errno, Kill, Log, Trap};
    prop_oneof![Just(Allow), Just(Log), Just(Trap), Just(Kill), (0..8).prop_map(Errno)]
}

/// Few values, so that they meet; all halves of zeros and ones.
fn value() -> impl Strategy<Value = u64> {
    let half = || prop_oneof![6 => 0..4_u32, 1 => Just(u32::MAX), 1 => Just(1 << 31), 1 => any::<u32>()];
    (half(), half()).prop_map(|(high, low)| u64::from(high) << 32 | u64::from(low))
}

fn condition() -> impl Strategy<Value = Condition> {
    use Condition::{Differs, Differs64, Equals, Equals64, Masked, Masked64};
    (0..6, 0..3_u8, value(), value()).prop_map(|(kind, index, value, mask)| match kind {
        0 => Equals(index, value as u32),
        1 => Differs(index, value as u32),
        2 => Masked(index, mask as u32, value as u32 & mask as u32),
        3 => Equals64(index, value),
        4 => Differs64(index, value),
        _ => Masked64(index, mask, value & mask),
    })
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..12_u32, 2 => 330..340_u32, 2 => 465..475_u32, 1 => Just((1 << 30) - 1), 2 => 0..600_u32]
}

fn rule() -> impl Strategy<Value = Rule> {
    let conditions = prop_oneof![1 => Just(Vec::new()), 4 => prop::collection::vec(condition(), 1..4)];
    (number(), conditions, action()).prop_map(|(number, conditions, action)| Rule {
        number,
        conditions,
        action,
    })
}

fn call() -> impl Strategy<Value = (u32, [u64; 6])> {
    let number = prop_oneof![9 => number(), 1 => any::<u32>()];
    (number, prop::array::uniform6(value()))
}

proptest! {
    #[test]
    fn a_filter_says_what_its_rules_say(
        default in action(),
        rules in prop_oneof![3 => prop::collection::vec(rule(), 0..20), 1 => prop::collection::vec(rule(), 100..250)],
        calls in prop::collection::vec(call(), 50),
    ) {
        let builder = rules.iter().fold(Seccomp::builder(default), |builder, rule| {
            let conditions = rule.conditions.iter().map(|condition| condition.compiled());
            builder.rule_if(i64::from(rule.number), conditions, rule.action)
        });
        let filter = builder.build().unwrap();
        verify(&filter);
        for (number, arguments) in calls {
            let said = answer(&filter, Call::native(number, arguments)).word;
            prop_assert_eq!(said, expected(default, &rules, number, arguments).word(), "{} {:?}", number, arguments);
        }
    }
}
