//! `make test-vm`: whole hosts under whole faults. `vm` tries one cell for each fault, `vm matrix` all of them.
//!
//! What came of it is a table on stdout and `target/vm/report.json`; the guests' journals lie beside it when something
//! broke. `vm up` boots the guests, says how to get in, and holds them until Ctrl-C: for whoever looks into a failure.
//!
//! Exit codes: 0 everything held, 1 it did not, 130 interrupted. What never happens here: anything on the machine's own
//! network, or a second run beside the first.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use launchpad_tests::guest::cell::Cell;
use launchpad_tests::guest::fleet::Fleet;
use launchpad_tests::guest::idle;
use launchpad_tests::guest::promises;
use launchpad_tests::guest::report::{self, Report};
use launchpad_tests::interrupt;
use launchpad_tests::lab::{Run, Sole};
use launchpad_tests::wait::Stopwatch;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (wanted, first) = match arguments.first().map(String::as_str) {
        None => (Cell::one_per_fault(), First::Strike),
        Some("matrix") => (Cell::matrix(), First::Watch),
        Some("up") => (Vec::new(), First::Hold),
        // Inside a guest.
        Some("held") => {
            let file = arguments.get(1).context("usage: vm held FILE")?;
            promises::inside(Path::new(file))?;
            return Ok(ExitCode::SUCCESS);
        }
        Some("only") => (named(&arguments[1..])?, First::Strike),
        Some(_) => bail!("usage: vm [matrix|up|only FAULT[:MOMENT]…]"),
    };
    // From here on the report is ours alone.
    let _sole = Sole::of(&report::folder())?;
    let mut report = Report::default();
    let ran = run(&mut report, wanted, first);
    if let Err(error) = interrupt::unless_stopping(ran) {
        report.ended = Some(format!("{error:#}"));
    }
    print!("{}", report.table());
    eprintln!("vm: {}", report.save()?.display());
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is done with a fleet that is up, before anything is done to it.
enum First {
    /// Nothing.
    Strike,
    /// What the agents take while nothing happens is watched for five minutes.
    Watch,
    /// It is held, for whoever looks around.
    Hold,
}

fn run(report: &mut Report, wanted: Vec<Cell>, first: First) -> Result<()> {
    let run = Run::fresh()?;
    let remains = run.remains();
    interrupt::on_interrupt("vm", move || remains.sweep())?;
    let watch = Stopwatch::start();
    let mut fleet = Fleet::open(run)?;
    report.ready_seconds = watch.elapsed().as_secs_f64();
    eprintln!("vm: a bot on each guest after {:.0} s", report.ready_seconds);
    match first {
        First::Strike => {}
        First::Watch => report.idle = idle::watch(&fleet)?,
        First::Hold => hold(&fleet),
    }
    report.held(promises::broken(&fleet)?)?;
    for cell in wanted {
        eprintln!("vm: {cell}");
        let outcome = cell.run(&mut fleet);
        let broke = !outcome.wrong.is_empty();
        report.cells.push(outcome);
        report.save()?;
        if broke {
            fleet.save_logs(&report::folder(), &format!("{}-{}", cell.fault, cell.moment));
            // A fleet that has not settled says nothing of the next cell.
            fleet.wait_settled().with_context(|| format!("after {cell}"))?;
        }
    }
    // Once more, after all that.
    report.held(promises::broken(&fleet)?)?;
    fleet.close()
}

/// The cells of the faults that were named, at every moment, or at the one behind a colon: `reboot disk-full:before`.
fn named(names: &[String]) -> Result<Vec<Cell>> {
    let is_meant = |cell: &Cell| {
        let (fault, at) = (cell.fault.to_string(), format!("{}:{}", cell.fault, cell.moment));
        names.iter().any(|name| *name == fault || *name == at)
    };
    let cells: Vec<Cell> = Cell::matrix().into_iter().filter(is_meant).collect();
    if cells.is_empty() {
        bail!("no fault is called {}", names.join(" or "))
    }
    Ok(cells)
}

/// Until Ctrl-C.
fn hold(fleet: &Fleet) -> ! {
    let pid = std::process::id();
    for guest in &fleet.guests {
        eprintln!("vm: nsenter --net=/proc/{pid}/ns/net {}", guest.control.by_hand());
    }
    loop {
        std::thread::park();
    }
}
