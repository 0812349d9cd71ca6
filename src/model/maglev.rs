//! Weighted Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): a table of slots in which each
//! member holds its share, and keeps nearly all of its slots when another joins or leaves.

/// A member that gets slots. The identity alone decides which slots it prefers, so that most of them stay
/// the same when other members come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The same number for the same member, whatever else is in the table.
    pub identity: u64,
    /// Its share of the slots, relative to other members. 0: it gets none.
    pub weight: u16,
}

/// Fills a table with the members' indexes. `slots` is a prime, well above the number of members,
/// of which there are 1 to 255. Where no member gets slots, the table says nothing.
pub fn table(members: &[Member], slots: usize) -> Vec<u8> {
    let heaviest = members
        .iter()
        .map(|m| u32::from(m.weight))
        .max()
        .unwrap_or(0);
    if heaviest == 0 {
        return vec![0; slots];
    }
    let mut walks: Vec<Walk> = members
        .iter()
        .map(|m| Walk::new(m.identity, slots))
        .collect();
    let mut credit = vec![0u32; members.len()];
    let mut table: Vec<Option<u8>> = vec![None; slots];
    let mut free = slots;

    // In the first round everyone with a weight takes a slot, so that none is too small to be served; from
    // then on, the heaviest takes one each round and the others as their weights add up.
    let mut first = true;
    while free > 0 {
        for (index, member) in members.iter().enumerate() {
            credit[index] += u32::from(member.weight);
            let is_due = if first {
                member.weight > 0
            } else {
                credit[index] >= heaviest
            };
            if !is_due || free == 0 {
                continue;
            }
            credit[index] = credit[index].saturating_sub(heaviest);
            let slot = walks[index].next_free(&table);
            table[slot] = Some(index as u8);
            free -= 1;
        }
        first = false;
    }
    table.into_iter().flatten().collect()
}

/// A member's own order of all slots.
struct Walk {
    slot: usize,
    skip: usize,
    slots: usize,
}

impl Walk {
    fn new(identity: u64, slots: usize) -> Self {
        let hash = mix(identity);
        let skip = (hash >> 32) as usize % (slots - 1) + 1;
        Walk {
            slot: hash as u32 as usize % slots,
            skip,
            slots,
        }
    }

    fn next_free(&mut self, table: &[Option<u8>]) -> usize {
        while table[self.slot].is_some() {
            self.slot = (self.slot + self.skip) % self.slots;
        }
        self.slot
    }
}

/// The finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
pub fn mix(value: u64) -> u64 {
    let mut x = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOTS: usize = 16127;

    fn members(n: u64) -> Vec<Member> {
        (0..n)
            .map(|i| Member {
                identity: 0x0a00_0001 + i,
                weight: 1,
            })
            .collect()
    }

    fn shares(table: &[u8], n: usize) -> Vec<usize> {
        let mut shares = vec![0; n];
        table
            .iter()
            .for_each(|&index| shares[usize::from(index)] += 1);
        shares
    }

    #[test]
    fn equal_weights_get_equal_shares() {
        for n in [1, 2, 3, 16, 100, 255] {
            let shares = shares(&table(&members(n), SLOTS), n as usize);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{n} members: {least} to {most}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let weights = [1, 2, 5, 8, 100];
        let members: Vec<Member> = weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| Member {
                identity: i as u64,
                weight,
            })
            .collect();
        let total: usize = weights.iter().map(|&w| usize::from(w)).sum();
        for (share, weight) in shares(&table(&members, SLOTS), 5).iter().zip(weights) {
            let fair = SLOTS * usize::from(weight) / total;
            assert!(
                share.abs_diff(fair) <= 2,
                "weight {weight}: {share} of {fair}"
            );
        }
    }

    #[test]
    fn the_smallest_weight_still_gets_a_slot() {
        let members = [1, 65535].map(|weight| Member {
            identity: u64::from(weight),
            weight,
        });
        assert_eq!(shares(&table(&members, SLOTS), 2)[0], 1);
    }

    #[test]
    fn a_member_without_weight_gets_nothing_and_the_others_what_they_would_without_it() {
        let mut all = members(5);
        all[2].weight = 0;
        let with = table(&all, SLOTS);
        assert_eq!(shares(&with, 5)[2], 0);
        all.remove(2);
        let without = table(&all, SLOTS);
        let moved = without.iter().map(|&index| index + u8::from(index >= 2));
        assert!(with.iter().copied().eq(moved));
        all.iter_mut().for_each(|member| member.weight = 0);
        assert_eq!(table(&all, SLOTS).len(), SLOTS);
    }

    /// One of n leaves: its own slots must move, and hardly any others.
    #[test]
    fn leaving_moves_its_own_slots_and_few_more() {
        for n in [2usize, 3, 10, 50, 255] {
            let all = members(n as u64);
            let before = table(&all, SLOTS);
            for gone in [0, n / 2, n - 1] {
                let mut rest = all.clone();
                rest.remove(gone);
                let after = table(&rest, SLOTS);
                let moved = before
                    .iter()
                    .zip(&after)
                    .filter(|&(&b, &a)| {
                        let kept = usize::from(a) + usize::from(usize::from(a) >= gone);
                        usize::from(b) != gone && usize::from(b) != kept
                    })
                    .count();
                assert!(
                    moved * 100 <= SLOTS * 3,
                    "{gone} of {n} left: {moved} others moved"
                );
            }
        }
    }

    #[test]
    fn the_table_does_not_depend_on_what_came_and_went() {
        assert_eq!(table(&members(9), SLOTS), table(&members(9), SLOTS));
    }
}
