"""All topics, in the order in which the held-out questions are listed."""

from olmo.embedded import facts
from olmo.embedded.number_topics import CALENDAR, NUMBERS
from olmo.embedded.topic import Topic, neighbours
from olmo.embedded.word_topics import LETTERS, THINGS

TOPICS: tuple[Topic, ...] = (
    *neighbours(
        "day",
        facts.DAYS,
        cyclic=True,
        weight=1.5,
        after=("If today is {0}, what day is tomorrow?", "Today is {0}. What day is tomorrow?"),
        before=(
            "If today is {0}, what day was yesterday?",
            "Today is {0}. What day was yesterday?",
        ),
    ),
    *neighbours("month", facts.MONTHS, cyclic=True, weight=1.5),
    *neighbours("number", facts.NUMBERS, weight=1.5, held_out=5),
    *neighbours("number", facts.NUMBER_WORDS, held_out=3),
    *neighbours("letter", facts.CAPITALS, any_case=False, held_out=3),
    *neighbours("letter", facts.SMALL_LETTERS, any_case=False, weight=0.5, held_out=1),
    *CALENDAR,
    *NUMBERS,
    *THINGS,
    *LETTERS,
)
