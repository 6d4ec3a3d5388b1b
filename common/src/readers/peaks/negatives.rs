//! Draws windows without a peak: as many as there are positives, with their GC contents if asked.
//!
//! Leaves out: positives, strands and splits. Invariant: what is drawn follows from files, options and
//! seed alone, on one thread; no window touches a peak, an excluded region or another negative.

use super::regions::{RegionSet, centred, for_each};
use crate::dna::DnaSequence;
use crate::error::{Error, InputError, Result};
use crate::readers::genome::Genome;
use crate::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// GC contents that count as one: steps of 5 %.
const GC_BINS: usize = 20;
/// Rounds of draws that insist on the GC content; each later one gives in by one more bin.
const ROUNDS_EXACT: usize = 64;
/// Rounds after which a genome has no room.
const ROUNDS_MAX: usize = ROUNDS_EXACT + GC_BINS + 32;
/// Draws of one round for each negative that is still missing, within the bounds below.
const DRAWS_PER_NEGATIVE: u64 = 8;
const DRAWS_MIN: u64 = 1_024;
const DRAWS_MAX: u64 = 65_536;

/// Contig number and 0-based start of a window.
pub(super) type Site = (usize, u64);

/// How negatives are asked for.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Length of a window in nucleotides.
    pub(super) window: u64,
    /// The GC contents of the positives count.
    pub(super) is_matched: bool,
    /// The chromosomes of the positives count.
    pub(super) same_chromosomes: bool,
    /// Regions to draw from; `None` = the chromosomes of the positives.
    pub(super) regions: Option<&'a Path>,
}

/// Draws one negative for each of `positives`, in an order that means nothing.
///
/// # Errors
/// `Invalid` when genome or regions have no room for as many, with both numbers.
pub(super) fn draw(
    genome: &Genome,
    positives: &[(Site, usize)],
    avoid: &RegionSet,
    wish: Wish<'_>,
    rng: &mut Rng,
) -> Result<Vec<Site>> {
    let mut demand = Demand::default();
    let mut contigs = BTreeSet::new();
    for &((contig, _), bin) in positives {
        demand.add(if wish.same_chromosomes { contig } else { 0 }, bin_of(wish, bin));
        contigs.insert(contig);
    }
    let mut drawer =
        Drawer { genome, avoid, wish, demand, taken: RegionSet::default(), drawn: Vec::new() };
    let source = match wish.regions {
        Some(path) => {
            drawer.draw_in_regions(path, rng)?;
            path
        }
        None => {
            drawer.draw_anywhere(&contigs, rng)?;
            genome.path()
        }
    };
    if drawer.demand.total > 0 {
        return Err(no_room(source, wish, positives.len(), drawer.drawn.len()));
    }
    Ok(drawer.drawn)
}

/// Which step of GC content `letters` has; `None` where a letter is undefined.
pub(super) fn gc_bin(letters: &[u8]) -> Option<usize> {
    let sequence = DnaSequence::new(letters).ok()?;
    if sequence.undefined_count() > 0 {
        return None;
    }
    let gc = letters.iter().filter(|base| matches!(base, b'G' | b'C')).count();
    (gc * GC_BINS).checked_div(letters.len()).map(|bin| bin.min(GC_BINS - 1))
}

/// All GC contents are one where they do not count.
fn bin_of(wish: Wish<'_>, bin: usize) -> usize {
    if wish.is_matched { bin } else { 0 }
}

fn no_room(source: &Path, wish: Wish<'_>, wanted: usize, found: usize) -> Error {
    let chromosomes = if wish.same_chromosomes { ", on the chromosomes of the peaks" } else { "" };
    let expected = format!(
        "room for {wanted} negatives of {} defined nucleotides apart from peaks, excluded regions and \
         each other{chromosomes}",
        wish.window
    );
    InputError::new(source.display(), "", expected, format!("{found} negatives")).into()
}

/// How many negatives are missing, by group (a contig, or 0) and GC content.
#[derive(Default)]
struct Demand {
    missing: BTreeMap<(usize, usize), u64>,
    total: u64,
}

impl Demand {
    fn add(&mut self, group: usize, bin: usize) {
        *self.missing.entry((group, bin)).or_default() += 1;
        self.total += 1;
    }

    /// Meets the nearest GC content that is missing, at most `tolerance` steps away.
    fn meet(&mut self, group: usize, bin: usize, tolerance: usize) -> bool {
        let range = (group, bin.saturating_sub(tolerance))..=(group, bin.saturating_add(tolerance));
        let nearest = self.missing.range(range).map(|(&key, _)| key);
        let Some(key) = nearest.min_by_key(|key| (key.1.abs_diff(bin), key.1)) else {
            return false;
        };
        if let Some(count) = self.missing.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.missing.remove(&key);
            }
        }
        self.total -= 1;
        true
    }

    /// The group of the `index`-th negative that is missing.
    fn group(&self, mut index: u64) -> usize {
        for (&(group, _), &count) in &self.missing {
            if index < count {
                return group;
            }
            index -= count;
        }
        0
    }
}

struct Drawer<'a> {
    genome: &'a Genome,
    avoid: &'a RegionSet,
    wish: Wish<'a>,
    demand: Demand,
    /// Windows drawn so far.
    taken: RegionSet,
    drawn: Vec<Site>,
}

impl Drawer<'_> {
    /// Draws from the windows centred on the regions of `path`, each at most once.
    fn draw_in_regions(&mut self, path: &Path, rng: &mut Rng) -> Result<()> {
        let mut sites = BTreeSet::new();
        for_each(path, self.genome, |region, (contig, length)| {
            sites.extend(centred(region, self.wish.window, length).map(|start| (contig, start)));
            Ok(())
        })?;
        let mut sites: Vec<(Site, Option<usize>)> =
            sites.into_iter().filter(|&site| self.is_free(site)).map(|site| (site, None)).collect();
        rng.shuffle(&mut sites);
        for tolerance in 0..=GC_BINS {
            let mut kept = Vec::with_capacity(sites.len());
            for (site, bin) in sites {
                if self.demand.total == 0 {
                    return Ok(());
                }
                let bin = match bin {
                    Some(bin) => Some(bin),
                    None => self.bin(site)?,
                };
                // Undefined letters rule a site out for good; its GC content may fit later.
                if let Some(bin) = bin
                    && !self.take(site, bin, tolerance)
                {
                    kept.push((site, Some(bin)));
                }
            }
            sites = kept;
        }
        Ok(())
    }

    /// Draws from all windows of `contigs` with equal chances.
    fn draw_anywhere(&mut self, contigs: &BTreeSet<usize>, rng: &mut Rng) -> Result<()> {
        let rooms: BTreeMap<usize, u64> = contigs
            .iter()
            .filter_map(|&number| {
                let contig = self.genome.contigs().get(number)?;
                Some((number, contig.length.checked_sub(self.wish.window)? + 1))
            })
            .collect();
        if rooms.is_empty() {
            return Ok(());
        }
        for round in 0..ROUNDS_MAX {
            if self.demand.total == 0 {
                break;
            }
            let count = self.demand.total.saturating_mul(DRAWS_PER_NEGATIVE);
            let count = count.clamp(DRAWS_MIN, DRAWS_MAX);
            let sites: Vec<Site> = (0..count).map(|_| self.any_site(&rooms, rng)).collect();
            // Looked at in the order of the genome, taken in the order drawn.
            let mut places: Vec<(Site, usize)> = sites.iter().copied().zip(0..).collect();
            places.sort_unstable();
            let mut bins = vec![None; sites.len()];
            for (site, index) in places {
                if let Some(slot) = bins.get_mut(index) {
                    *slot = if self.is_free(site) { self.bin(site)? } else { None };
                }
            }
            let tolerance = round.saturating_sub(ROUNDS_EXACT);
            for (&site, bin) in sites.iter().zip(bins) {
                if let Some(bin) = bin {
                    self.take(site, bin, tolerance);
                }
            }
        }
        Ok(())
    }

    fn any_site(&self, rooms: &BTreeMap<usize, u64>, rng: &mut Rng) -> Site {
        if self.wish.same_chromosomes {
            let contig = self.demand.group(rng.below(self.demand.total));
            return (contig, rng.below(rooms.get(&contig).copied().unwrap_or(1)));
        }
        let mut place = rng.below(rooms.values().sum());
        for (&contig, &room) in rooms {
            if place < room {
                return (contig, place);
            }
            place -= room;
        }
        (0, 0)
    }

    /// Whether a window touches neither a peak nor an excluded region.
    fn is_free(&self, (contig, start): Site) -> bool {
        !self.avoid.overlaps(contig, start, start + self.wish.window)
    }

    /// GC content of a window; `None` where a letter is undefined.
    fn bin(&self, (contig, start): Site) -> Result<Option<usize>> {
        let Some(contig) = self.genome.contigs().get(contig) else { return Ok(None) };
        let letters = self.genome.fetch(&contig.name, start, start + self.wish.window)?;
        Ok(gc_bin(&letters).map(|bin| bin_of(self.wish, bin)))
    }

    /// Takes a window if one like it is missing and none is taken there.
    fn take(&mut self, site: Site, bin: usize, tolerance: usize) -> bool {
        let (contig, start) = site;
        let (end, group) =
            (start + self.wish.window, if self.wish.same_chromosomes { contig } else { 0 });
        if self.taken.overlaps(contig, start, end) || !self.demand.meet(group, bin, tolerance) {
            return false;
        }
        self.taken.insert(contig, start, end);
        self.drawn.push(site);
        true
    }
}
