//! What answers take, for those who measure.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gatewright_tests::figures;
use protocol::code::Code;
use protocol::pairing::Started;

use crate::by_hand::{ByHand, Gateway};

/// A code takes so many attempts, and an address ten starts: five of each kind.
const PER_ADDRESS: usize = 5;
const ADDRESSES: usize = 16;

/// Messages 1 and 3 with a wrong code: how long their answers took.
fn measure(machine: &mut ByHand, code: &Code) -> Result<[Duration; 2]> {
    let (state, start) = machine.begin(code);
    let (answer, first) = machine.line.post(&format!("/v1/pairings/{}/start", code.locator()), &start)?;
    answer.expect(200)?;
    let claimant = state.started(&answer.read::<Started>()?)?;
    let message = claimant.confirm(&machine.claim()?);
    let (answer, third) =
        machine.line.post(&format!("/v1/pairings/{}/confirm", claimant.session()), &message)?;
    answer.expect(403)?;
    Ok([first, third])
}

#[test]
fn a_locator_of_nobody_takes_as_long_as_a_wrong_secret() -> Result<()> {
    let gateways = (0..ADDRESSES).map(|_| Gateway::new()).collect::<Result<Vec<_>>>()?;
    let nobody: Vec<_> = (0..10_000)
        .map(|n| format!("{n:04}"))
        .filter(|locator| gateways.iter().all(|gateway| gateway.code.locator() != locator))
        .take(PER_ADDRESS)
        .map(|locator| Code::new(&locator, "1234567").context("it is one"))
        .collect::<Result<_>>()?;
    // In turns, so that whatever else this machine does meets both.
    let (mut real, mut decoys) = (Vec::new(), Vec::new());
    for gateway in &gateways {
        let mut machine = ByHand::new()?;
        machine.line.ask("GET", "/v1/version", &[], Vec::new())?.expect(200)?;
        for (wrong, nobody) in gateway.wrong_codes().zip(&nobody) {
            real.push(measure(&mut machine, &wrong)?);
            decoys.push(measure(&mut machine, nobody)?);
        }
    }
    for (at, message) in ["start", "confirm"].iter().enumerate() {
        let mut real: Vec<_> = real.iter().map(|times| times[at]).collect();
        let mut decoys: Vec<_> = decoys.iter().map(|times| times[at]).collect();
        real.sort();
        decoys.sort();
        let (one, other) = (real[real.len() / 2], decoys[decoys.len() / 2]);
        let odds = slower(&real, &decoys);
        figures::say(&format!(
            "{message}: {one:.1?} for a wrong secret, {other:.1?} for nobody's locator (medians of {}); of a pair the first is \
             the slower one with {odds:.2}",
            real.len()
        ));
        // A code gives five samples, with a network's noise on top. Without SPAKE2 for nobody's locator it would be 1.
        ensure!((0.2..0.8).contains(&odds), "{message}: they can be told apart ({odds:.2})");
        ensure!(one < 3 * other && other < 3 * one, "{message}: {one:?} and {other:?}");
    }
    Ok(())
}

/// How likely one of `a` is larger than one of `b`: half, if nothing can be told (Mann and Whitney's U).
fn slower(a: &[Duration], b: &[Duration]) -> f64 {
    let larger = a.iter().flat_map(|a| b.iter().map(move |b| a > b)).filter(|larger| *larger).count();
    larger as f64 / (a.len() * b.len()) as f64
}
