//! How long a workload's identity lasts: its own certificate, the CAs above it, and the roots that it trusts.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::{Certificate, Error, Result, Window};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The part of a certificate in an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The workload's own certificate.
    Leaf,
    /// A CA between the leaf and the root.
    Intermediate,
    /// A root.
    Root,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Root => "root",
        })
    }
}

/// When a certificate ends too soon.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Least time that a root must have left.
    pub root: Duration,
    /// Least time that an intermediate must have left.
    pub intermediate: Duration,
    /// The share of a leaf's lifetime after which the leaf is late: its agent renews it at half of its lifetime.
    pub renewed_by: f64,
}

impl Default for Limits {
    /// 30 days for a root, 7 days for an intermediate, three quarters of a leaf's lifetime.
    fn default() -> Self {
        Self { root: 30 * DAY, intermediate: 7 * DAY, renewed_by: 0.75 }
    }
}

/// The lifetime of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetime {
    /// Which certificate.
    pub part: Part,
    /// SPIFFE ID, or name of the subject.
    pub owner: String,
    /// Time left. Zero if it has ended.
    pub left: Duration,
    /// Why that is too little. `None` if it is enough.
    pub fault: Option<String>,
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` has {} left", self.part, self.owner, words(self.left))
    }
}

/// How long an identity lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifetimes {
    /// Each certificate once, the leaf first, the roots last.
    pub each: Vec<Lifetime>,
    /// How long the leaf is of use: until it or a CA above it ends. Zero if one has ended.
    pub effective: Duration,
    /// The CA that ends before the leaf. `None` if the leaf ends first.
    pub outlived: Option<String>,
}

impl Lifetimes {
    /// Judges a proxy's own `chain`, leaf first, and the `roots` that the proxy trusts. A root may stand in the chain,
    /// also twice: that is not pretty, and not wrong.
    ///
    /// # Errors
    /// [`Error`]: the chain is empty, or a certificate cannot be parsed.
    pub fn of(chain: &[Certificate], roots: &[Certificate], limits: &Limits, now: SystemTime) -> Result<Self> {
        let Some((leaf, above)) = chain.split_first() else {
            return Err(Error { what: "a proxy's chain".into(), reason: "it holds no certificate".into() });
        };
        let mut each = vec![of_leaf(leaf, limits, now)?];
        let ends = leaf.validity()?.until;
        let (mut effective, mut outlived) = (ends, None);
        for authority in above {
            let until = authority.validity()?.until;
            if until < ends {
                outlived.get_or_insert(format!("{} `{}`", part_of(authority, roots)?, authority.owner()?));
            }
            effective = effective.min(until);
        }
        let mut seen: Vec<&Certificate> = Vec::new();
        for authority in above.iter().chain(roots) {
            if seen.contains(&authority) {
                continue;
            }
            seen.push(authority);
            each.push(of_authority(authority, part_of(authority, roots)?, limits, now)?);
        }
        each.sort_by_key(|one| one.part);
        Ok(Self { each, effective: left(effective, now), outlived })
    }

    /// The certificates that end too soon.
    pub fn faults(&self) -> impl Iterator<Item = &str> {
        self.each.iter().filter_map(|one| one.fault.as_deref())
    }
}

fn part_of(authority: &Certificate, roots: &[Certificate]) -> Result<Part> {
    let is_root = roots.contains(authority) || authority.is_signed_by(authority)?;
    Ok(if is_root { Part::Root } else { Part::Intermediate })
}

fn of_leaf(leaf: &Certificate, limits: &Limits, now: SystemTime) -> Result<Lifetime> {
    let Window { from, until } = leaf.validity()?;
    let whole = until.duration_since(from).unwrap_or_default();
    let late = from + whole.mul_f64(limits.renewed_by);
    let (owner, left) = (leaf.owner()?, left(until, now));
    let fault = (now >= late).then(|| {
        format!("the leaf of `{owner}` lasts {} and has {} left: it was not renewed", words(whole), words(left))
    });
    Ok(Lifetime { part: Part::Leaf, owner, left, fault })
}

fn of_authority(authority: &Certificate, part: Part, limits: &Limits, now: SystemTime) -> Result<Lifetime> {
    let limit = if part == Part::Root { limits.root } else { limits.intermediate };
    let (owner, left) = (authority.owner()?, left(authority.validity()?.until, now));
    let fault = (left < limit)
        .then(|| format!("the {part} `{owner}` has {} left, less than {}: replace it now", words(left), words(limit)));
    Ok(Lifetime { part, owner, left, fault })
}

fn left(until: SystemTime, now: SystemTime) -> Duration {
    until.duration_since(now).unwrap_or_default()
}

/// A duration in its largest whole unit that tells enough.
pub fn words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Minter, SpiffeId, Validity};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    struct Minted {
        chain: Vec<Certificate>,
        root: Certificate,
    }

    /// A chain whose leaf, intermediate and root last this long from now.
    fn minted(leaf: Duration, intermediate: Duration, root: Duration) -> Minted {
        let root = Minter::authority_for("root", root).unwrap();
        let id = SpiffeId::workload("cluster.local", "shop", "cart");
        let intermediate = root.intermediate_for("intermediate", intermediate).unwrap();
        let pem = intermediate.mint(&id, Validity::For(leaf)).unwrap().chain_pem;
        Minted {
            chain: Certificate::all_from_pem("a chain", &pem).unwrap(),
            root: Certificate::from_pem("a root", root.chain_pem()).unwrap(),
        }
    }

    fn judged(Minted { chain, root }: &Minted) -> Lifetimes {
        Lifetimes::of(chain, std::slice::from_ref(root), &Limits::default(), SystemTime::now()).unwrap()
    }

    fn faults(lifetimes: &Lifetimes) -> Vec<String> {
        lifetimes.faults().map(str::to_owned).collect()
    }

    #[test]
    fn a_leaf_lasts_no_longer_than_the_ca_above_it() {
        let outliving = judged(&minted(24 * HOUR, 2 * HOUR, 365 * DAY));
        assert_eq!(outliving.outlived.as_deref(), Some("intermediate `CN=intermediate`"));
        assert!(outliving.effective <= 2 * HOUR && outliving.effective > HOUR, "{:?}", outliving.effective);
        let sound = judged(&minted(24 * HOUR, 30 * DAY, 365 * DAY));
        assert_eq!((sound.outlived, faults(&judged(&minted(24 * HOUR, 30 * DAY, 365 * DAY)))), (None, Vec::new()));
    }

    #[test]
    fn what_ends_soon_is_named_by_its_part() {
        let of = |intermediate, root| faults(&judged(&minted(HOUR, intermediate, root)));
        assert_eq!(of(8 * DAY, 31 * DAY), [""; 0]);
        let [fault] = <[String; 1]>::try_from(of(6 * DAY, 31 * DAY)).unwrap();
        assert!(fault.starts_with("the intermediate `CN=intermediate` has 5 days left"), "{fault}");
        let [fault] = <[String; 1]>::try_from(of(8 * DAY, 29 * DAY)).unwrap();
        assert!(fault.starts_with("the root `CN=root` has 28 days left, less than 30 days"), "{fault}");
    }

    #[test]
    fn a_leaf_that_was_not_renewed_in_time_is_late() {
        let Minted { chain, root } = minted(24 * HOUR, 30 * DAY, 365 * DAY);
        let at = |after: Duration| {
            let now = SystemTime::now() + after;
            faults(&Lifetimes::of(&chain, std::slice::from_ref(&root), &Limits::default(), now).unwrap())
        };
        assert_eq!(at(12 * HOUR), [""; 0]);
        let [fault] = <[String; 1]>::try_from(at(19 * HOUR)).unwrap();
        assert!(fault.contains("was not renewed"), "{fault}");
    }

    #[test]
    fn a_root_that_stands_twice_in_a_chain_is_one_root() {
        let Minted { mut chain, root } = minted(HOUR, 30 * DAY, 365 * DAY);
        chain.push(root.clone());
        let twice = judged(&Minted { chain, root });
        assert_eq!(
            twice.each.iter().map(|one| one.part).collect::<Vec<_>>(),
            [Part::Leaf, Part::Intermediate, Part::Root]
        );
        assert_eq!(faults(&twice), [""; 0]);
    }
}
