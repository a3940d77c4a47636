use proptest::prelude::*;

use super::*;

fn began(number: u32) -> Began {
    Began {
        number,
        kind: Kind::Deploy,
        app: "notes".into(),
        environment: "prod".into(),
        target: "local".into(),
        by: "ada".into(),
        host: "here".into(),
        lazuli: "0.1.0".into(),
        back_to: None,
        plan: vec![Step::Package, Step::Deploy, Step::Swap],
        watch_s: None,
        accepted: Vec::new(),
        canary: Vec::new(),
    }
}

fn journals() -> (tempfile::TempDir, Journals) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let journals = Journals::of(dir.path(), "prod");
    (dir, journals)
}

fn entry() -> impl Strategy<Value = Entry> {
    let step = prop_oneof![Just(Step::Package), Just(Step::Deploy), Just(Step::Swap)];
    prop_oneof![
        step.clone().prop_map(|step| Entry::Started { step }),
        // Names and values hold whatever an app's log holds, also what looks like our own framing.
        (step.clone(), "\\PC*", prop_oneof!["\\PC*", Just("\",\"hash\":\"00\"}\n{".to_owned())])
            .prop_map(|(step, name, value)| Entry::Noted { step, name, value }),
        (step.clone(), any::<u64>()).prop_map(|(step, elapsed_ms)| Entry::Done {
            step,
            detail: "ok".into(),
            elapsed_ms
        }),
        (step, proptest::collection::vec("\\PC*", 0..3)).prop_map(|(step, log)| Entry::Failed {
            step,
            error: "boom".into(),
            log,
            elapsed_ms: 1
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Cut at any byte, a journal reads as the lines that were whole, and can be gone on with.
    #[test]
    fn cut_anywhere_it_reads_as_what_was_whole(
        entries in proptest::collection::vec(entry(), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_dir, journals) = journals();
        let mut journal = journals.begin(began).expect("begun");
        for entry in &entries {
            journal.write(entry.clone()).expect("written");
        }
        let written = journal.records().to_vec();
        let path = journals.path(1);
        let bytes = std::fs::read(&path).expect("there");
        let cut = cut.index(bytes.len() + 1);
        std::fs::write(&path, &bytes[..cut]).expect("cut");

        let whole = bytes[..cut].iter().filter(|byte| **byte == b'\n').count();
        let story = journals.read(1).expect("a valid prefix");
        prop_assert_eq!(&story.records[..], &written[..whole]);

        let mut journal = journals.resume(1).expect("opened again");
        journal.write(Entry::Started { step: Step::Swap }).expect("written");
        let story = journals.read(1).expect("still valid");
        prop_assert_eq!(story.records.len(), whole + 1);
    }

    /// A byte changed anywhere in a whole line is noticed.
    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1_u8..=255) {
        let (_dir, journals) = journals();
        let mut journal = journals.begin(began).expect("begun");
        journal.write(Entry::Started { step: Step::Swap }).expect("written");
        journal.write(Entry::Ended { outcome: Outcome::Succeeded, elapsed_ms: 5 }).expect("written");
        let path = journals.path(1);
        let mut bytes = std::fs::read(&path).expect("there");
        // Not the last line feed: without it the last line counts as cut off.
        let at = at.index(bytes.len() - 1);
        bytes[at] ^= flip;
        std::fs::write(&path, &bytes).expect("changed");
        let noticed = matches!(journals.read(1), Err(JournalError::Tampered { .. }));
        prop_assert!(noticed, "byte {} was changed and nobody noticed", at);
    }
}

#[test]
fn the_chain_runs_through_all_releases() {
    let (_dir, journals) = journals();
    drop(journals.begin(began).expect("begun"));
    drop(journals.begin(began).expect("begun"));
    assert_eq!(journals.numbers().expect("listed"), [1, 2]);
    let first = journals.read(1).expect("read");
    let second = journals.read(2).expect("read");
    assert_eq!(second.records[0].prev, first.hash);
    assert_eq!(second.began().map(|began| began.number), Some(2));
}

#[test]
fn a_line_taken_out_is_noticed() {
    let (_dir, journals) = journals();
    let mut journal = journals.begin(began).expect("begun");
    journal.write(Entry::Started { step: Step::Swap }).expect("written");
    journal.write(Entry::Ended { outcome: Outcome::Failed, elapsed_ms: 5 }).expect("written");
    let text = std::fs::read_to_string(journals.path(1)).expect("there");
    let without: String = text
        .split_inclusive('\n')
        .enumerate()
        .filter(|(i, _)| *i != 1)
        .map(|(_, line)| line)
        .collect();
    std::fs::write(journals.path(1), without).expect("changed");
    assert!(matches!(journals.read(1), Err(JournalError::Tampered { line: 2, .. })));
}

#[test]
fn a_journal_cut_off_at_birth_says_nothing_and_its_number_is_used_again() {
    let (_dir, journals) = journals();
    drop(journals.begin(began).expect("begun"));
    std::fs::write(journals.path(2), b"{\"seq\":0,").expect("written");
    assert_eq!(journals.last().expect("read").map(|(number, _)| number), Some(1));
    assert_eq!(journals.begin(began).expect("begun").number(), 2);
}
