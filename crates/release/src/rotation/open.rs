//! Rotations that have not ended. The process that waits for a confirmation period may be gone, with
//! its machine; what has to be done stands in the journals, and whoever reads them can say so.

use jiff::Timestamp;
use serde::Serialize;

use super::entry::{self, Entry, due, outcome};
use crate::journal::{JournalError, Journals};

/// A rotation that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Its number.
    pub number: u32,
    /// The secret that was asked for.
    pub secret: String,
    /// All that hang on the same credential.
    pub secrets: Vec<String>,
    /// When it began.
    pub began: Timestamp,
    /// When the old versions are disabled; `None` before everything uses the new ones.
    pub due: Option<Timestamp>,
}

impl Open {
    /// What it waits for, in a few words.
    pub fn state(&self, now: Timestamp) -> String {
        match self.due {
            None => "it was interrupted, or is under way".to_owned(),
            Some(due) if due > now => format!("the old version is disabled at {due:.0}"),
            Some(due) => format!("the old version was to be disabled at {due:.0}"),
        }
    }

    /// Whether its time has come.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

/// The rotations of `target` (`local` or `azure`) that have not ended, the oldest first.
pub fn open_rotations(journals: &Journals<Entry>, target: &str) -> Result<Vec<Open>, JournalError> {
    let mut found = Vec::new();
    for number in journals.numbers()? {
        let story = journals.read(number)?;
        let at = story.records.first().map(|record| record.at);
        if let (Some(began), Some(at)) = (entry::began(&story.records), at)
            && began.target == target
            && outcome(&story.records).is_none()
        {
            found.push(Open {
                number,
                secret: began.secret.clone(),
                secrets: began.secrets.clone(),
                began: at,
                due: due(&story.records),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::entry::{Began, Outcome};

    fn begun(number: u32, target: &str) -> Entry {
        Entry::Began(Box::new(Began {
            number,
            app: "notes".into(),
            environment: "prod".into(),
            target: target.into(),
            secret: "notes-jwt-secret".into(),
            secrets: vec!["notes-jwt-secret".into()],
            by: "ada".into(),
            host: "laptop".into(),
            lazuli: "0".into(),
            confirm_seconds: 86_400,
        }))
    }

    #[test]
    fn a_rotation_of_one_target_is_nothing_to_the_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let journals: Journals<Entry> = Journals::at(dir.path().join("prod"));
        journals.begin_with(|number| begun(number, "local")).expect("written");
        let mut ended = journals.begin_with(|number| begun(number, "azure")).expect("written");
        ended.write(Entry::Ended { outcome: Outcome::Rotated }).expect("written");
        journals.begin_with(|number| begun(number, "azure")).expect("written");
        let numbers = |target| -> Vec<u32> {
            let open = open_rotations(&journals, target).expect("read");
            open.iter().map(|open| open.number).collect()
        };
        assert_eq!(numbers("local"), [1]);
        assert_eq!(numbers("azure"), [3]);
    }

    #[test]
    fn a_journal_from_before_there_were_targets_is_a_regions() {
        let mut entry = serde_json::to_value(begun(1, "azure")).expect("JSON");
        entry.as_object_mut().expect("an object").remove("target");
        let Entry::Began(began) = serde_json::from_value(entry).expect("an entry") else {
            panic!("another entry")
        };
        assert_eq!(began.target, "local");
    }

    #[test]
    fn it_is_due_when_its_time_has_come() {
        let due: Timestamp = "2026-11-27T00:00:00Z".parse().expect("a time");
        let open = Open {
            number: 1,
            secret: "notes-jwt-secret".into(),
            secrets: Vec::new(),
            began: due,
            due: Some(due),
        };
        let before = due - jiff::SignedDuration::from_secs(1);
        assert!(!open.is_due(before));
        assert!(open.is_due(due));
        assert!(open.state(before).contains("is disabled at"));
        assert!(open.state(due).contains("was to be disabled at"));
        assert!(!Open { due: None, ..open }.is_due(due));
    }
}
