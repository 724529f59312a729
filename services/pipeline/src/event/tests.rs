use super::*;

#[test]
fn the_accepted_range_is_the_century_from_2000() {
    assert_eq!(EventTime::MIN.to_string(), "2000-01-01T00:00:00Z");
    assert_eq!(EventTime::MAX.to_string(), "2099-12-31T23:59:59.999999Z");
    assert!(EventTime::MIN.is_accepted() && EventTime::MAX.is_accepted());
    assert!(!EventTime::from_micros(EventTime::MIN.micros() - 1).is_accepted());
    assert!(!EventTime::from_micros(EventTime::MAX.micros() + 1).is_accepted());
}

#[test]
fn a_day_begins_at_its_start_and_ends_a_microsecond_before_the_next() {
    for days in [-2, -1, 0, 1, 10_957, 47_481] {
        let day = Day::from_days(days);
        let last = EventTime::from_micros(day.start().micros() + MICROS_PER_DAY - 1);
        assert_eq!(day.start().day(), day);
        assert_eq!(last.day(), day);
        assert_eq!(
            EventTime::from_micros(last.micros() + 1).day().days(),
            days + 1
        );
    }
    assert_eq!(Day::from_days(-1).to_string(), "1969-12-31");
    assert_eq!(EventTime::MIN.day().to_string(), "2000-01-01");
    assert_eq!(
        NaiveDate::from(Day::from_days(59)),
        NaiveDate::from_ymd_opt(1970, 3, 1).expect("a real date")
    );
}

#[test]
fn no_instant_and_no_day_is_beyond_printing() {
    for micros in [i64::MIN, i64::MAX] {
        let time = EventTime::from_micros(micros);
        assert!(!time.to_string().is_empty());
        assert_eq!(
            i64::from(time.day().days()),
            micros.div_euclid(MICROS_PER_DAY)
        );
    }
    for days in [i32::MIN, i32::MAX] {
        assert!(!Day::from_days(days).to_string().is_empty());
        assert!(Day::from_days(days).start().micros().signum() == i64::from(days.signum()));
    }
}

#[test]
fn a_user_is_written_as_text_whichever_way_it_came() {
    for (user, text) in [
        (UserId::Text("anna".into()), "anna"),
        (UserId::Number(i64::MIN), "-9223372036854775808"),
        (UserId::Number(0), "0"),
    ] {
        let mut out = b"user ".to_vec();
        user.write_to(&mut out);
        assert_eq!(out, format!("user {text}").into_bytes());
        assert_eq!(user.to_string(), text);
        assert_eq!(user.into_owned().to_string(), text);
    }
}
