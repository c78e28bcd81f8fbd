//! `gatewright pack lint`: every rule on every pack, for people, programs and CI services.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum, ValueHint};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use pack::archive::Limits;
use pack::lint::{Files, Finding, Level, RULES, sarif};
use serde::Serialize;
use serde_json::json;

use crate::error::{Failure, exit};
use crate::print;

#[derive(Args, Debug)]
#[command(after_help = HELP)]
pub(crate) struct LintArgs {
    /// Packs: folders, or archives NAME-VERSION.tgz
    #[arg(required_unless_present = "list", value_name = "PACK", value_hint = ValueHint::AnyPath)]
    packs: Vec<PathBuf>,
    /// Form of the result; `--json` is the same as `json`
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Leave rules out, by name
    #[arg(long, value_delimiter = ',', value_name = "RULE")]
    skip: Vec<String>,
    /// Let warnings fail
    #[arg(long)]
    strict: bool,
    /// List the rules
    #[arg(long)]
    list: bool,
}

const HELP: &str = "\
Exit codes: 0 when there is no error, 1 when there is one, or a pack cannot be read. Notes never fail.

Example, for code scanning in CI:
  gatewright pack lint packs/* --format sarif > packs.sarif";

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// Lines as compilers write them
    Text,
    Json,
    /// SARIF 2.1.0
    Sarif,
}

/// A pack with what is wrong with it.
#[derive(Serialize)]
struct Linted {
    pack: String,
    findings: Vec<Finding>,
}

pub(crate) fn run(arguments: &LintArgs, json: bool, quiet: bool) -> Result<ExitCode> {
    refuse_unknown(&arguments.skip)?;
    let format = if json { Format::Json } else { arguments.format };
    if arguments.list {
        list(format)?;
        return Ok(ExitCode::SUCCESS);
    }
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let packs = arguments
        .packs
        .iter()
        .map(|path| lint(path, today, &arguments.skip))
        .collect::<Result<Vec<Linted>>>()?;
    let worst = if arguments.strict { Level::Warning } else { Level::Error };
    let ok = !packs.iter().flat_map(|pack| &pack.findings).any(|finding| finding.level <= worst);
    match format {
        Format::Text if quiet => {}
        Format::Text => report(&packs, &mut anstream::stdout().lock())?,
        Format::Json => print(&serde_json::to_string_pretty(&json!({"ok": ok, "packs": packs}))?)?,
        Format::Sarif => {
            let log = sarif::log(packs.iter().map(|pack| (pack.pack.as_str(), pack.findings.as_slice())));
            print(&serde_json::to_string_pretty(&log)?)?;
        }
    }
    Ok(if ok { ExitCode::SUCCESS } else { exit::USER.into() })
}

fn lint(path: &Path, today: Date, skip: &[String]) -> Result<Linted> {
    let files = if path.is_file() { unpack(path)? } else { read(path)? };
    Ok(Linted { pack: path.display().to_string(), findings: pack::lint::lint(&files, today, skip) })
}

fn read(dir: &Path) -> Result<Files> {
    Files::read(dir).map_err(|e| {
        let hint = "name the folder of a pack, or its archive NAME-VERSION.tgz";
        Failure::user(format!("Cannot read {}: {e}", dir.display()), hint)
    })
}

fn unpack(path: &Path) -> Result<Files> {
    let temporary = tempfile::tempdir().context("Cannot make a temporary folder")?;
    // An archive without a top folder is judged by its own name.
    let into = temporary.path().join(path.file_stem().unwrap_or_default());
    fs::create_dir(&into)?;
    let archive = File::open(path).with_context(|| format!("Cannot read {}", path.display()))?;
    let dir = pack::archive::unpack(archive, &into, Limits::default()).map_err(|e| Failure::User {
        message: format!("Cannot unpack {}: {}", path.display(), e.message),
        hint: e.hint,
    })?;
    read(&dir)
}

fn refuse_unknown(names: &[String]) -> Result<()> {
    match names.iter().find(|name| RULES.iter().all(|rule| rule.name != name.as_str())) {
        Some(name) => Err(Failure::user(
            format!("There is no rule `{name}`"),
            "`gatewright pack lint --list` names them",
        )),
        None => Ok(()),
    }
}

fn list(format: Format) -> Result<()> {
    if format == Format::Text {
        for rule in RULES {
            let style = style(rule.level);
            print(&format!(
                "{:<20} {style}{:<8}{style:#} {}",
                rule.name,
                rule.level.to_string(),
                rule.title
            ))?;
        }
        return Ok(());
    }
    let rules: Vec<_> = RULES
        .iter()
        .map(|rule| json!({"rule": rule.name, "level": rule.level, "title": rule.title, "hint": rule.hint}))
        .collect();
    print(&serde_json::to_string_pretty(&rules)?)
}

fn style(level: Level) -> Style {
    match level {
        Level::Error => AnsiColor::Red.on_default().bold(),
        Level::Warning => AnsiColor::Yellow.on_default().bold(),
        Level::Note => AnsiColor::Cyan.on_default(),
    }
}

/// Lines that editors and CI services know how to follow.
fn report(packs: &[Linted], out: &mut dyn Write) -> io::Result<()> {
    for Linted { pack, findings } in packs {
        for finding in findings {
            write!(out, "{}", printable(pack))?;
            if !finding.file.is_empty() {
                write!(out, "/{}", printable(&finding.file))?;
            }
            if let (Some(line), Some(column)) = (finding.line, finding.column) {
                write!(out, ":{line}:{column}")?;
            }
            let (style, level) = (style(finding.level), finding.level);
            writeln!(
                out,
                ": {style}{level}[{}]{style:#}: {}\n    hint: {}",
                finding.rule,
                printable(&finding.message),
                finding.hint
            )?;
        }
    }
    let all = || packs.iter().flat_map(|pack| &pack.findings);
    let count = |level| all().filter(|finding| finding.level == level).count();
    let number = |count, word| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let levels = [(Level::Error, "error"), (Level::Warning, "warning"), (Level::Note, "note")];
    let counts: Vec<String> = levels.map(|(level, word)| number(count(level), word)).into();
    writeln!(out, "{}: {}", number(packs.len(), "pack"), counts.join(", "))
}

/// A pack's author does not write to our user's terminal.
fn printable(text: &str) -> String {
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_rule() {
        let docs = include_str!("../../../docs/lint.md");
        let listed: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `")).collect();
        let rows: Vec<String> = RULES
            .iter()
            .map(|rule| {
                let hint = rule.hint.replace('|', "\\|");
                format!("| `{}` | {} | {} | {hint} |", rule.name, rule.level, rule.title)
            })
            .collect();
        assert_eq!(listed, rows, "docs/lint.md should have\n{}", rows.join("\n"));
    }

    #[test]
    fn findings_are_lines_with_hints() {
        let files: Files =
            [("pack.json", r#"{"name": "a\u001b[31m b", "layer": "moon"}"#)].into_iter().collect();
        let findings = pack::lint::lint(&files, jiff::civil::date(2026, 1, 1), &["documentation".into()]);
        let mut out = Vec::new();
        report(&[Linted { pack: "packs/a".into(), findings }], &mut anstream::StripStream::new(&mut out))
            .unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
