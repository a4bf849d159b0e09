// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs each argument as a shell command, side by side, and prints how each has ended, in the order
//! of their ends. When the first fails, the others get SIGTERM, and a second later SIGKILL.
use exitbus::{Bus, Command, Group, Process, Topic};
use std::collections::HashMap;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = Bus::new()?;
    let exits = bus.subscribe(Topic::AnyPid)?; // before the first child: none is missed
    let job = Group::set(&bus, "job")?;
    let mut running: HashMap<i32, (String, Process)> = HashMap::new();
    for script in std::env::args().skip(1) {
        let process = Command::new("sh").args(["-c", &script]).spawn(&bus)?;
        job.add(&process)?;
        running.insert(process.pid()?, (script, process));
    }
    let mut failed = false;
    while !running.is_empty() {
        let event = exits.recv()?;
        let script = running.remove(&event.pid()).map_or(String::new(), |(script, _)| script);
        let code = event.exit_code().unwrap_or(-1);
        println!("{script}: {code}");
        if code != 0 && !failed {
            failed = true;
            job.end(15, Some(Duration::from_secs(1)))?; // SIGTERM
        }
    }
    Ok(())
}
