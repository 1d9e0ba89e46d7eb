//! `flafka man` and `flafka completions`: pages made from the command line's own description.

use anyhow::{Context, bail};
use clap::CommandFactory;

use crate::arguments::{Arguments, CompletionsOptions, ManOptions};
use crate::exit::{Ending, Outcome};

pub(crate) fn completions(options: CompletionsOptions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Arguments::command(),
        "flafka",
        &mut script,
    );
    write_out(&script)
}

pub(crate) fn man(options: ManOptions) -> Outcome {
    let command = Arguments::command();
    if let Some(dir) = options.out {
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        clap_mangen::generate_to(command, &dir)
            .with_context(|| format!("write into {}", dir.display()))?;
        return Ok(Ending::Done);
    }
    let command = match options.command {
        None => command,
        Some(name) => match command.find_subcommand(&name) {
            Some(found) => found.clone().display_name(format!("flafka-{name}")),
            None => {
                let names: Vec<_> = command
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                bail!("no command {name}; there are: {}", names.join(", "));
            }
        },
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    write_out(&page)
}

fn write_out(bytes: &[u8]) -> Outcome {
    std::io::Write::write_all(&mut std::io::stdout().lock(), bytes)?;
    Ok(Ending::Done)
}
