//! Rotations that have not ended, told by whatever command comes by: the process that waits for a
//! confirmation period may have gone with its machine, and must not be the only thing that ends it.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use lazuli_release::journal::Journals;
use lazuli_release::lock::Lock;
use lazuli_release::rotation::{Open, journals, open_rotations};
use serde::Serialize;

use crate::cli::{Context, Target};
use crate::printer::{CAUTION, NAME, paint};
use crate::project::Project;

/// How long whoever waits may try before it is said that it does not get done: the region may be
/// stopped, a role take its ten minutes to reach Azure's vault.
const TRIES: SignedDuration = SignedDuration::from_mins(15);

/// A rotation that has not ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Waiting {
    #[serde(flatten)]
    pub(crate) open: Open,
    /// Whether a process on this machine waits for its time.
    pub(crate) waited_for: bool,
    /// Its time has come, and nobody does what is due.
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
    let waited_for = Lock::holder(&place(project, cx)).is_some();
    let now = Timestamp::now();
    let tried = |open: &Open| open.due.is_some_and(|due| now.duration_since(due) > TRIES);
    open.unwrap_or_default()
        .into_iter()
        .map(|open| Waiting {
            waited_for,
            overdue: !busy && open.is_due(now) && (!waited_for || tried(&open)),
            interrupted: !busy && !waited_for && open.due.is_none(),
            open,
        })
        .collect()
}

/// Where whoever waits for the confirmation periods of this target says that it does.
fn place(project: &Project, cx: &Context) -> PathBuf {
    let name = format!("waiting-{}-{}", project.environment.as_str(), target(cx));
    project.root.join(".lazuli").join("rotations").join(name)
}

/// Says for as long as it lives that somebody waits. `None` where somebody else does already.
pub(crate) fn wait(project: &Project, cx: &Context) -> Option<Lock> {
    Lock::acquire(&place(project, cx), "secrets rotate --wait", false).ok().map(|(lock, _)| lock)
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
            Some(due) if self.waited_for => {
                format!("waits: the old version is disabled at {due:.0}")
            }
            Some(due) => format!(
                "waits for somebody to disable the old version, after {due:.0}: lazuli secrets rotate \
                 --resume{flags}"
            ),
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
