//! Every input of the fuzzer's corpus once: what was found stays mended. `deploy/fuzz` looks for more.

use testkit::fuzz::{inputs, run, targets};

#[test]
fn every_input_of_the_corpus_has_an_outcome() {
    for target in targets::ALL {
        let inputs = inputs(target.name).expect("a corpus");
        for (path, input) in inputs.into_iter().chain((target.seeds)().into_iter().map(|s| ("a sample".into(), s))) {
            if let Err(panic) = run(target, &input) {
                panic!("{} on {}: {panic}", target.name, path.display());
            }
        }
    }
}

#[test]
fn a_little_fuzzing_finds_nothing() {
    use testkit::fuzz::mutate::{self, Random};
    let mut random = Random::new(20_261_128);
    for target in targets::ALL {
        let pool: Vec<Vec<u8>> = inputs(target.name).expect("a corpus").into_values().chain((target.seeds)()).collect();
        for _ in 0..300 {
            let input = mutate::input(&pool, &mut random, target.parts);
            if let Err(panic) = run(target, &input) {
                panic!("{}: {panic}\n{}", target.name, String::from_utf8_lossy(&input));
            }
        }
    }
}
