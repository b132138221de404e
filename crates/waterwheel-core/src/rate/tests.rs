use super::*;

fn at(us: u64) -> Now {
    Now::at(Duration::from_micros(us))
}

fn records(limit: RateLimit) -> Bucket {
    limit.buckets(at(0)).0.unwrap()
}

/// Takes all that there is whenever it says that it is worth it; how many until then.
fn drained(bucket: &mut Bucket, from: u64, until: u64) -> u64 {
    let (mut now, mut taken) = (at(from), 0);
    while now < at(until) {
        let n = bucket.available(now);
        bucket.take(n);
        taken += n;
        now = bucket.ready_at().unwrap().max(now + Duration::from_nanos(1));
    }
    taken
}

#[test]
fn a_minute_at_any_rate_is_within_two_in_a_hundred() {
    for rate in [1, 7, 100, 1_000, 33_333, 1_000_000] {
        let taken = drained(&mut records(RateLimit::records(rate)), 0, 60_000_000);
        let wanted = rate * 60;
        assert!(taken <= wanted && taken + 1 + wanted / 50 >= wanted, "{taken} at {rate} a second");
    }
}

#[test]
fn a_quiet_time_gives_a_burst_and_no_more() {
    let mut bucket = records(RateLimit::records(100).burst(20));
    assert_eq!(bucket.available(at(0)), 0, "it begins empty: starting again and again gives nothing");
    assert_eq!(bucket.available(at(3_600_000_000)), 20);
    bucket.take(20);
    assert_eq!(bucket.available(at(3_600_050_000)), 5);
}

#[test]
fn a_debt_is_waited_for() {
    let mut bucket = RateLimit::bytes(1_000).buckets(at(0)).1.unwrap();
    assert_eq!(bucket.available(at(1_000_000)), 100);
    bucket.take(1_100);
    assert_eq!(bucket.available(at(1_500_000)), 0);
    assert!(bucket.ready_at().unwrap() > at(2_000_000));
    assert_eq!(bucket.available(at(2_002_000)), 2);
}

#[test]
fn a_smaller_share_loses_its_surplus_and_a_larger_one_begins_with_what_it_has() {
    let mut bucket = records(RateLimit::records(1_000).burst(100).group_wide());
    assert_eq!((bucket.available(at(9_000_000)), bucket.ready_at()), (0, None), "without a share nothing comes");
    bucket.set_share(1.0, at(9_000_000));
    assert_eq!(bucket.available(at(9_000_000)), 0);
    assert_eq!(bucket.available(at(10_000_000)), 100);
    bucket.set_share(0.25, at(10_000_000));
    assert_eq!(bucket.available(at(10_000_000)), 25);
    bucket.set_share(1.0, at(10_000_000));
    assert_eq!(bucket.available(at(10_000_000)), 25);
}

/// Three members pass twelve partitions round for a minute.
#[test]
fn a_group_stays_within_its_rate_and_one_burst_while_shares_move() {
    let limit = RateLimit::records(1_000).burst(100).group_wide();
    let mut members = vec![records(limit.clone()), records(limit.clone()), records(limit)];
    let (mut taken, mut dice) = (0, 1_u64);
    for step in 0..60_u64 {
        let now = at(step * 1_000_000);
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let one = (dice >> 40) % 13;
        let two = (dice >> 50) % (13 - one);
        for (member, held) in members.iter_mut().zip([one, two, 12 - one - two]) {
            member.set_share(held as f64 / 12.0, now);
        }
        for ms in 0..1_000 {
            for member in &mut members {
                let n = member.available(now + Duration::from_millis(ms));
                member.take(n);
                taken += n;
            }
        }
        let wanted = (step + 1) * 1_000;
        assert!(taken <= wanted + 100 && taken + wanted / 50 + 3 >= wanted, "{taken} of {wanted}");
    }
}
