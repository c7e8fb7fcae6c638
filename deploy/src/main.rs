//! The `ferrite` command.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Brings a Ferrite cluster up on this machine, and takes it down.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the cluster up: this machine as its node, further ones in namespaces, and the nginx example.
    Up(deploy::up::Flags),
    /// Take the cluster down and leave no trace.
    Down,
    /// Show every node's daemons.
    Status,
    /// Print what the running cluster costs while idle.
    Measure(deploy::measure::Flags),
    /// List the cluster's certificates, or renew them.
    Certs(deploy::certs::Flags),
    /// Keep this machine's daemons running, or be a further node. `up` starts this.
    Supervise {
        /// Be this node, in namespaces of its own.
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::logs::start(2, false);
    match run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ferrite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Down => deploy::down::run()?,
        Command::Status => deploy::status::run()?,
        Command::Certs(flags) => deploy::certs::run(&flags)?,
        Command::Supervise { node: Some(node) } => return deploy::supervise::node::run(&node),
        Command::Supervise { node: None } => {
            // A closed terminal is none of its business. It fails only for who leads a session already.
            let _ = nix::unistd::setsid();
            runtime()?.block_on(deploy::supervise::run())?;
        }
        Command::Up(flags) => {
            daemon::tls::install_crypto();
            runtime()?.block_on(deploy::up::run(flags))?;
        }
        Command::Measure(flags) => runtime()?.block_on(deploy::measure::run(flags))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread: the supervisor must have no more when it is cheap, and `up` waits for others most of the time.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
