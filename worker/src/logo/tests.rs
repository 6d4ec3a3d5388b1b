use super::*;
use glmeval_common::dna::DnaSequence;
use glmeval_common::readers::motifs::Motif;

fn motif(probabilities: Vec<[f64; 4]>) -> Motif {
    Motif { id: "M<1>".to_owned(), name: None, probabilities, sites: None }
}

/// Class, top and height of every letter, in the order they are drawn.
fn letters(svg: &str) -> Vec<(String, f64, f64)> {
    let paths = svg.lines().filter(|line| line.starts_with("<path"));
    let number = |text: &str| text.parse::<f64>().unwrap();
    let letter = |line: &str| {
        let class = line.split('"').nth(1).unwrap().to_owned();
        let place = line.split("translate(").nth(1).unwrap();
        let top = number(place.split([',', ')']).nth(1).unwrap());
        let scale = line.split("scale(").nth(1).unwrap();
        (class, top, number(scale.split([',', ')']).nth(1).unwrap()))
    };
    paths.map(letter).collect()
}

#[test]
fn information_is_two_bits_for_one_base_and_none_for_all() {
    let motif = motif(vec![[0.0, 1.0, 0.0, 0.0], [0.25; 4], [0.5, 0.0, 0.5, 0.0]]);
    assert_eq!(information(&motif), [2.0, 0.0, 1.0]);
    let found = letters(&information_logo(&motif));
    // One whole stack, none, and two letters of a half of a half.
    assert_eq!(found.len(), 3);
    assert_eq!((found[0].0.as_str(), found[0].2), ("lc", 130.0));
    assert_eq!((found[1].2, found[2].2), (32.5, 32.5));
    assert!((found[2].1 + 32.5 - found[1].1).abs() < 0.02, "stacked: {found:?}");
}

#[test]
fn negative_values_hang_below_the_axis_upside_down() {
    let sequence = DnaSequence::new("ATN").unwrap();
    let svg = attribution_logo(&sequence, &[1.0, -0.5, f64::NAN], "a & b").unwrap();
    let found = letters(&svg);
    assert_eq!(found.len(), 2);
    assert!(found[0].2 > 0.0 && found[1].2 < 0.0, "{found:?}");
    assert!((found[0].2 + 2.0 * found[1].2).abs() < 0.01, "to scale: {found:?}");
    // Both begin at the axis: the one ends there, the other's top lies its height below.
    assert!((found[0].1 + found[0].2 - (found[1].1 + found[1].2)).abs() < 0.02, "{found:?}");
    assert!(svg.contains("a &amp; b") && !svg.contains("NaN"));
    assert!(attribution_logo(&sequence, &[1.0], "t").is_err());
}

#[test]
fn a_logo_is_a_file_of_its_own() {
    let svg = information_logo(&motif(vec![[0.7, 0.1, 0.1, 0.1]]));
    assert!(svg.starts_with("<?xml") && svg.contains("prefers-color-scheme:dark"));
    assert!(svg.contains("M&lt;1&gt;") && !svg.contains("http://www.w3.org/1999"));
    assert_eq!(svg.matches("<svg").count(), 1);
    assert_eq!(svg, information_logo(&motif(vec![[0.7, 0.1, 0.1, 0.1]])));
}
