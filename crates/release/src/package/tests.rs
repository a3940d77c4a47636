use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::symlink;

use lazuli_standard::webjob::migrate_script;

use super::*;

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
    std::fs::write(path, content).expect("written");
}

fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path();
    write(root, "requirements.txt", "fastapi\n");
    write(root, "modules/backend/main.py", "app = None\n");
    write(root, "modules/__init__.py", "");
    write(root, "start.sh", "#!/bin/sh\n");
    std::fs::set_permissions(root.join("start.sh"), Permissions::from_mode(0o700)).expect("mode");
    dir
}

fn names(root: &Path, exclude: &[&str]) -> (BTreeSet<String>, Vec<String>) {
    let exclude: Vec<String> = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
    let mut warnings = Vec::new();
    let files = list(root, &exclude, &mut |warning| warnings.push(warning)).expect("listed");
    (files.into_iter().map(|file| file.name).collect(), warnings)
}

fn zip_of(root: &Path, job: Option<&str>) -> (String, Vec<u8>) {
    let files = list(root, &[], &mut |_| {}).expect("listed");
    let file = tempfile::tempfile().expect("a file");
    let jobs: Vec<WebJobFile> = job
        .map(|script| WebJobFile {
            path: MIGRATE_JOB,
            content: script.to_owned(),
            executable: true,
        })
        .into_iter()
        .collect();
    write_zip(&file, root, &files, &jobs).expect("zipped");
    let (digest, _) = digest(&file).expect("digested");
    let mut bytes = Vec::new();
    (&file).seek(SeekFrom::Start(0)).expect("rewound");
    (&file).read_to_end(&mut bytes).expect("read");
    (digest, bytes)
}

#[test]
fn the_same_tree_gives_the_same_bytes_whenever_and_in_whatever_order_it_was_written() {
    let (one, two) = (project(), tempfile::tempdir().expect("a directory"));
    write(two.path(), "start.sh", "#!/bin/sh\n");
    // Another mode, but executable all the same.
    std::fs::set_permissions(two.path().join("start.sh"), Permissions::from_mode(0o755))
        .expect("mode");
    write(two.path(), "modules/__init__.py", "");
    write(two.path(), "modules/backend/main.py", "app = None\n");
    write(two.path(), "requirements.txt", "fastapi\n");
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    File::open(two.path().join("start.sh")).and_then(|file| file.set_modified(old)).expect("dated");

    assert_eq!(zip_of(one.path(), Some("job")), zip_of(two.path(), Some("job")));
    write(two.path(), "requirements.txt", "fastapi==1\n");
    assert_ne!(zip_of(one.path(), None).0, zip_of(two.path(), None).0);
}

#[test]
fn names_are_sorted_and_modes_are_fixed_with_the_job_among_them() {
    let project = project();
    write(project.path(), "Zebra", "");
    write(project.path(), "App_Data/seed.json", "{}");
    let (_, bytes) = zip_of(project.path(), Some("#!/bin/bash\n"));
    let mut zip = zip::ZipArchive::new(io::Cursor::new(bytes)).expect("a zip");
    let entries: Vec<(String, u32)> = (0..zip.len())
        .map(|i| {
            let file = zip.by_index(i).expect("an entry");
            (file.name().expect("UTF-8").into_owned(), file.unix_mode().expect("a mode") & 0o777)
        })
        .collect();
    let expected = [
        ("App_Data/jobs/triggered/migrate/run.sh", 0o755),
        ("App_Data/seed.json", 0o644),
        ("Zebra", 0o644),
        ("modules/__init__.py", 0o644),
        ("modules/backend/main.py", 0o644),
        ("requirements.txt", 0o644),
        ("start.sh", 0o755),
    ];
    assert_eq!(entries, expected.map(|(name, mode)| (name.to_owned(), mode)));
}

#[test]
fn what_never_belongs_on_a_server_is_left_out() {
    let project = project();
    let root = project.path();
    for name in [
        ".git/config",
        ".venv/bin/python",
        "modules/__pycache__/main.cpython-314.pyc",
        ".pytest_cache/x",
        ".env",
        ".env.production",
        ".lazuli/packages/x.zip",
        "odd-name/pyvenv.cfg",
        "odd-name/lib/x.py",
        ".DS_Store",
        "certs/site.pfx",
    ] {
        write(root, name, "x");
    }
    write(root, ".env.example", "A=");
    write(root, ".python-version", "3.14");
    let (names, warnings) = names(root, &[]);
    let expected = [
        ".env.example",
        ".python-version",
        "modules/__init__.py",
        "modules/backend/main.py",
        "requirements.txt",
        "start.sh",
    ];
    assert_eq!(names, expected.map(str::to_owned).into());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn gitignore_and_the_manifest_are_honoured_also_outside_git() {
    let project = project();
    let root = project.path();
    write(root, ".gitignore", "/build\n*.log\n!keep.log\n");
    write(root, "modules/.gitignore", "generated.py\n");
    for name in [
        "build/x",
        "a.log",
        "keep.log",
        "modules/generated.py",
        "tests/test_a.py",
        "modules/tests/b.py",
    ] {
        write(root, name, "x");
    }
    let (names, _) = names(root, &["/tests/"]);
    assert!(names.contains("keep.log"));
    assert!(names.contains("modules/tests/b.py"));
    for gone in ["build/x", "a.log", "modules/generated.py", "tests/test_a.py"] {
        assert!(!names.contains(gone), "{gone} is in the package");
    }
}

#[test]
fn a_private_key_is_left_out_by_what_it_is_and_a_link_by_where_it_leads() {
    let project = project();
    let root = project.path();
    write(root, "deploy.txt", "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n");
    write(root, "tool.py", "MARK = '-----BEGIN PRIVATE KEY-----'\n");
    symlink("/etc/hostname", root.join("outside")).expect("linked");
    symlink("requirements.txt", root.join("inside.txt")).expect("linked");
    let (names, warnings) = names(root, &[]);
    assert!(names.contains("tool.py") && names.contains("inside.txt"));
    assert!(!names.contains("deploy.txt") && !names.contains("outside"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

/// The job picks the database by its argument, and says what is missing.
#[test]
fn the_migration_job_picks_the_database_its_argument_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("run.sh");
    std::fs::write(&script, migrate_script("echo \"to $MIGRATION_DATABASE_URL\""))
        .expect("written");
    let run = |argument: &str, variables: &[(&str, &str)]| {
        let output = Command::new("bash")
            .arg(&script)
            .args((!argument.is_empty()).then_some(argument))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("WEBROOT_PATH", dir.path())
            .envs(variables.iter().copied())
            .output()
            .expect("bash runs");
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.lines().last().unwrap_or_default().to_owned())
    };
    let slot = [
        ("MIGRATION_DATABASE_URL", "staging-db"),
        ("PRODUCTION_MIGRATION_DATABASE_URL", "production-db"),
        ("WEBSITE_SLOT_NAME", "staging"),
    ];
    assert_eq!(run("staging", &slot), (Some(0), "to staging-db".into()));
    assert_eq!(run("production", &slot), (Some(0), "to production-db".into()));
    // A staging slot without production's URL must not migrate its own database in its place.
    assert_eq!(run("production", &[slot[0], slot[2]]).0, Some(64));
    let production =
        [("MIGRATION_DATABASE_URL", "production-db"), ("WEBSITE_SLOT_NAME", "Production")];
    assert_eq!(run("production", &production), (Some(0), "to production-db".into()));
    assert_eq!(run("prod", &slot).0, Some(64));
    assert_eq!(run("", &[]).0, Some(64));
    assert_eq!(run("", &[("MIGRATION_DATABASE_URL", "@Microsoft.KeyVault(…)")]).0, Some(65));
}
