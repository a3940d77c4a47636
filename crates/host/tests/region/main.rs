//! A region of nothing but processes: what holds when they are killed, what a sandbox can see, who
//! listens where. This binary is every process of the tree at once, as `lazuli` is.

mod inside;
mod machine;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = lazuli_host::internal_main(args.iter().cloned()) {
        return code;
    }
    let words: Vec<_> = args.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["__core", scenario] => return inside::core(scenario),
        ["__program", rest @ ..] => return inside::program(rest),
        ["__enter", init, hosts] => return machine::enter(init, hosts),
        _ => {}
    }
    let mut trials = machine::trials();
    for (name, _) in inside::SCENARIOS {
        trials.push(Trial::test(*name, || machine::scenario(name)));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
