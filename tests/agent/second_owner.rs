//! A file channel's directories belong to one process: a second one is refused, told who has them, and takes over later.

use anyhow::{Context, Result, ensure};
use flafka_tests::poll;
use flafka_tests::running_agent::{LIMIT, RunningAgent};

use crate::place::{Place, netcat_logger};

#[test]
fn a_second_process_on_the_same_directories_is_told_who_has_them() -> Result<()> {
    let place = Place::new()?;
    let conf = |name: &str, port: u16| {
        let dirs = ["one", "two"].map(|dir| place.path(dir).display().to_string());
        let text = netcat_logger(port, "r1").replace(
            "a1.channels.c1.type = memory",
            &format!(
                "a1.channels.c1.type = file\na1.channels.c1.dataDirs = {}",
                dirs.join(",")
            ),
        );
        place.file(name, &text)
    };
    let first_conf = conf("first.conf", crate::place::port()?)?;
    let second_conf = conf("second.conf", crate::place::port()?)?;
    let first = RunningAgent::ready("a1", &first_conf, &[], &place.path("first"))?;
    let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
    let mut second = RunningAgent::start(&arguments, &second_conf, &[], &place.path("second"))?;
    let holder = first.process.pid();
    let told = poll::until("the second one names the first", LIMIT, || {
        let output = second.output()?;
        let mut lines = output.lines();
        let told = lines.find(|line| line.contains("is in use by process"));
        Ok(told.map(str::to_owned))
    })
    .with_context(|| second.process.evidence())?;
    ensure!(told.contains(&holder.to_string()), "{told}");
    ensure!(
        told.contains("agent -n a1") && told.contains("first.conf"),
        "{told}"
    );
    ensure!(!told.contains("-Dflume"), "{told}");
    first.stop()?;
    second.until_ready()?;
    second.stop()
}
