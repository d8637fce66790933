import pytest

from adapters.parity.scoring.dates import iso_date


@pytest.mark.parametrize(
    "text",
    [
        *("2025-03-04", "2025/03/04", "2025/3/4", "2025.3.4", "March 4, 2025", "march 4th 2025"),
        *("Mar. 4, 2025", "4 March 2025", "4th of March 2025", "04-Mar-2025", "4 Mar, 2025"),
    ],
)
def test_the_forms_of_one_day_are_one(text):
    assert iso_date(text) == "2025-03-04"


def test_numbers_before_the_year_are_read_where_only_one_day_is_possible():
    assert iso_date("25/12/2024") == iso_date("12/25/2024") == "2024-12-25"
    assert iso_date("05-05-2024") == "2024-05-05"


@pytest.mark.parametrize(
    "text",
    [
        *("03/04/2025", "3.4.2025", "03-04-2025"),
        *("2025-13-01", "2025-02-30", "30/30/2025", "04/03/25", "May 2025", "Foo 4, 2025"),
        *("2025-03/04", "20250304", "2025", "", "on March 4, 2025", "tomorrow", "٢٠٢٥-٠٣-٠٤"),
        *("2025-03-04T25:00", "0001-01-01T00:00+23:00"),
    ],
)
def test_what_may_mean_two_days_or_none_is_left_alone(text):
    assert iso_date(text) is None


def test_moments_are_one_however_written_and_zones_are_moved_to_utc():
    assert iso_date("2025-03-04 10:00") == iso_date("2025-03-04t10:00:00") == "2025-03-04T10:00:00"
    assert (
        iso_date("2025-03-04T12:00:00+02:00")
        == iso_date("2025-03-04T10:00:00.000Z")
        == iso_date("2025-03-04T10:00z")
        == "2025-03-04T10:00:00Z"
    )


def test_a_moment_without_a_zone_is_not_one_in_utc_and_a_day_is_no_moment():
    assert len({iso_date(text) for text in ("2025-03-04T00:00", "2025-03-04T00:00Z")}) == 2
    assert iso_date("2025-03-04") != iso_date("2025-03-04T00:00")
