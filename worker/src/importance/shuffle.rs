//! Shuffles that keep every count of two neighbouring letters.
//!
//! Leaves out: whole analyses. Invariant: first and last letter, length and all counts of letters and
//! pairs stay; each sequence that has them is equally likely; a shuffle depends on seed, sequence
//! and number alone.
//!
//! Letters are the nodes of a graph and neighbours its edges, so a sequence is a path over every
//! edge once. By the theorem of de Bruijn, van Aardenne-Ehrenfest, Smith and Tutte such paths from s
//! to t are in one-to-one relation to (a tree of last edges that leads from every other node to t, an
//! order of the remaining edges of each node). The number of orders is the same for all trees. So a tree
//! drawn uniformly (Wilson 1996: a walk over edges with its loops erased) with orders drawn uniformly
//! is a path drawn uniformly; and since equal neighbours give as many paths for each sequence, a
//! sequence drawn uniformly. Altschul and Erickson 1985 draw last edges until they form a tree; what
//! they draw has the same distribution.
//!
//! A letter other than A, C, G, T is a node as any other: a run of N keeps its length, and may move.

use glmeval_common::dna::DnaSequence;
use glmeval_common::rng::Rng;

/// Shuffle `number` of `sequence` under `seed`.
pub fn shuffled(sequence: &DnaSequence, seed: u64, number: u64) -> DnaSequence {
    let letters = sequence.as_bytes();
    let (Some(&first), Some(&last)) = (letters.first(), letters.last()) else {
        return sequence.clone();
    };
    let purpose = format!("dinucleotide shuffle {number} of {}", sequence.as_str());
    let mut rng = Rng::derive(seed, &purpose);
    let mut graph = Graph::new(letters);
    let end = graph.node(last);
    graph.draw_last_edges(end, &mut rng);
    for edges in &mut graph.edges {
        rng.shuffle(edges);
    }
    // Edges are taken from the back, so the last one of a node lies at the front.
    for (edges, last_edge) in graph.edges.iter_mut().zip(&graph.last_edges) {
        edges.extend(*last_edge);
        edges.rotate_right(usize::from(last_edge.is_some()));
    }
    let mut node = graph.node(first);
    let mut path = vec![first];
    while let Some(next) = graph.edges.get_mut(node).and_then(Vec::pop) {
        path.extend(graph.letters.get(next));
        node = next;
    }
    DnaSequence::new(path).unwrap_or_else(|_| sequence.clone())
}

/// The first `count` shuffles of `sequence`.
pub fn shuffles(sequence: &DnaSequence, seed: u64, count: u64) -> Vec<DnaSequence> {
    (0..count).map(|number| shuffled(sequence, seed, number)).collect()
}

/// Which letter follows which.
struct Graph {
    /// Letters that occur, ascending: node i is letter i.
    letters: Vec<u8>,
    /// Nodes that the edges of each node lead to, one for each time.
    edges: Vec<Vec<usize>>,
    /// Where the last edge leads that each node is left by; none for the end of the path.
    last_edges: Vec<Option<usize>>,
}

impl Graph {
    fn new(sequence: &[u8]) -> Self {
        let mut letters = sequence.to_vec();
        letters.sort_unstable();
        letters.dedup();
        let (edges, last_edges) = (vec![Vec::new(); letters.len()], vec![None; letters.len()]);
        let mut graph = Self { letters, edges, last_edges };
        for pair in sequence.windows(2) {
            let (from, to) = (graph.node(pair[0]), graph.node(pair[1]));
            graph.edges[from].push(to);
        }
        graph
    }

    fn node(&self, letter: u8) -> usize {
        self.letters.partition_point(|other| *other < letter)
    }

    /// Draws a tree towards `end` uniformly, its edges taken out of the others.
    fn draw_last_edges(&mut self, end: usize, rng: &mut Rng) {
        let mut chosen: Vec<Option<usize>> = vec![None; self.letters.len()];
        let mut is_in_tree = vec![false; self.letters.len()];
        is_in_tree[end] = true;
        for start in 0..self.letters.len() {
            // A later step from a node replaces the earlier one: that erases the loop between.
            let mut node = start;
            while !is_in_tree[node] {
                let edge = rng.below(self.edges[node].len() as u64) as usize;
                chosen[node] = Some(edge);
                node = self.edges[node][edge];
            }
            let mut node = start;
            while !is_in_tree[node] {
                is_in_tree[node] = true;
                let Some(edge) = chosen[node] else { break };
                node = self.edges[node][edge];
            }
        }
        chosen[end] = None;
        for (node, edge) in chosen.into_iter().enumerate() {
            self.last_edges[node] = edge.map(|edge| self.edges[node].swap_remove(edge));
        }
    }
}
