//! Rotations that have not ended, told by whatever command comes by: the process that waits for a
//! confirmation period may have gone with its machine, and must not be the only thing that ends it.

use jiff::Timestamp;
use lazuli_release::journal::Journals;
use lazuli_release::lock::Lock;
use lazuli_release::rotation::{Open, journals, open_rotations};
use serde::Serialize;

use crate::cli::{Context, Target};
use crate::printer::{CAUTION, NAME, paint};
use crate::project::Project;

/// A rotation that has not ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    #[serde(flatten)]
    pub(crate) open: Open,
    /// Its time has come, and nobody did what is due.
    pub(crate) overdue: bool,
    /// It was cut off before everything used the new version, and nobody goes on with it.
    pub(crate) interrupted: bool,
}

/// The target as a journal writes it down.
pub(crate) fn target(cx: &Context) -> &'static str {
    match cx.global.target {
        Target::Local => "local",
        Target::Azure => "azure",
    }
}

/// The project's rotations that have not ended. A journal that cannot be read is `lazuli secrets`' own
/// error, not every command's.
pub(crate) fn rotations(project: &Project, cx: &Context) -> Vec<Waiting> {
    let environment = project.environment.as_str();
    let open = open_rotations(&journals(&project.root, environment), target(cx));
    // One lock for releases and rotations.
    let releases: Journals = Journals::of(&project.root.join(".lazuli"), environment);
    let busy = Lock::holder(releases.dir()).is_some_and(|holder| holder.rotates());
    let now = Timestamp::now();
    open.unwrap_or_default()
        .into_iter()
        .map(|open| Waiting {
            overdue: !busy && open.overdue(now),
            interrupted: !busy && open.due.is_none(),
            open,
        })
        .collect()
}

impl Waiting {
    /// Whether somebody has to do something.
    pub(crate) fn needs_somebody(&self) -> bool {
        self.overdue || self.interrupted
    }

    /// A line for people.
    pub(crate) fn text(&self, flags: &str) -> String {
        let Open { number, secret, due, .. } = &self.open;
        let what = match due {
            Some(due) if self.overdue => format!("is due since {due:.0}"),
            Some(due) => format!("waits: the old version works until {due:.0}"),
            None if self.interrupted => "was interrupted".to_owned(),
            None => "is under way".to_owned(),
        };
        let mut text = format!("{} rotation {number} of {secret} {what}", paint(CAUTION, "note:"));
        if self.needs_somebody() {
            let command = format!("lazuli secrets rotate --resume{flags}");
            text = format!("{text}: {}", paint(NAME, command));
        }
        text
    }
}

/// Says on standard error what somebody has to go on with.
pub(crate) fn remind(project: &Project, cx: &Context) {
    for waiting in rotations(project, cx).iter().filter(|waiting| waiting.needs_somebody()) {
        cx.printer.aside(waiting.text(&cx.flags()));
    }
}
