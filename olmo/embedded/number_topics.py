"""Topics of numbers and the calendar."""

from olmo.embedded import facts
from olmo.embedded.topic import Topic, split

_BY_WORD = tuple(enumerate(facts.NUMBER_WORDS))

_SUM_DIGITS = (
    "What is {0} plus {1}?",
    "What is {0} + {1}?",
    "How much is {0} plus {1}?",
    "How much is {0} + {1}?",
    "What is the sum of {0} and {1}?",
    "Add {0} and {1}.",
    "{0} + {1} = ?",
    "{0} plus {1} is what?",
    "What do you get if you add {0} and {1}?",
    "Calculate {0} + {1}.",
)
_DIFFERENCE_DIGITS = (
    "What is {0} minus {1}?",
    "What is {0} - {1}?",
    "How much is {0} minus {1}?",
    "How much is {0} - {1}?",
    "What is the difference between {0} and {1}?",
    "Take {1} from {0}.",
    "{0} - {1} = ?",
    "{0} minus {1} is what?",
    "What do you get if you take {1} from {0}?",
    "Calculate {0} - {1}.",
)


def _called(phrasings: tuple[str, ...]) -> tuple[str, ...]:
    """The phrasings that read well with number words."""
    return tuple(p for p in phrasings if " + " not in p and " - " not in p)


NUMBERS = (
    Topic(
        "sum",
        tuple((str(a), str(b), str(a + b)) for a in range(11) for b in range(11)),
        _SUM_DIGITS,
        weight=3,
        held_out=7,
    ),
    Topic(
        "sum in words",
        tuple(
            (x, y, facts.NUMBER_WORDS[a + b]) for a, x in _BY_WORD[:11] for b, y in _BY_WORD[:11]
        ),
        _called(_SUM_DIGITS),
        weight=2,
        held_out=3,
    ),
    Topic(
        "difference",
        tuple(
            (str(a), str(b), str(a - b))
            for a in range(21)
            for b in range(max(0, a - 10), min(a, 10) + 1)
        ),
        _DIFFERENCE_DIGITS,
        weight=3,
        held_out=6,
    ),
    Topic(
        "difference in words",
        tuple(
            (x, y, facts.NUMBER_WORDS[a - b])
            for a, x in _BY_WORD[:11]
            for b, y in _BY_WORD[: a + 1]
        ),
        _called(_DIFFERENCE_DIGITS),
        weight=2,
        held_out=3,
    ),
    Topic(
        "double",
        tuple((str(a), str(2 * a)) for a in range(21)),
        split(
            "What is double {0}? | What is twice {0}? | Double {0}. | How much is twice {0}? "
            "| What is 2 times {0}? | What is {0} times 2?"
        ),
        held_out=2,
    ),
    Topic(
        "half",
        tuple((str(2 * a), str(a)) for a in range(21)),
        split(
            "What is half of {0}? | How much is half of {0}? | Halve {0}. | What is {0} "
            "divided by 2? | Divide {0} by 2. | Tell me half of {0}."
        ),
        held_out=2,
    ),
    Topic(
        "bigger",
        tuple((str(a), str(b), str(max(a, b))) for a in range(21) for b in range(21) if a != b),
        split(
            "Which is bigger, {0} or {1}? | Which is more, {0} or {1}? | Which number is "
            "larger, {0} or {1}? | Is {0} or {1} bigger? | What is the larger of {0} and {1}?"
        ),
        weight=1.5,
        held_out=3,
    ),
    Topic(
        "smaller",
        tuple((str(a), str(b), str(min(a, b))) for a in range(21) for b in range(21) if a != b),
        split(
            "Which is smaller, {0} or {1}? | Which is less, {0} or {1}? | Which number is "
            "smaller, {0} or {1}? | Is {0} or {1} smaller? | What is the smaller of {0} and "
            "{1}?"
        ),
        weight=1.5,
        held_out=3,
    ),
    Topic(
        "number as a word",
        tuple((str(n), word) for n, word in _BY_WORD),
        split(
            "How do you write {0} in words? | Write {0} as a word. | Spell the number {0}. | "
            "What is {0} in words? | What is the word for {0}?"
        ),
        held_out=2,
    ),
    Topic(
        "word as a number",
        tuple((word, str(n)) for n, word in _BY_WORD),
        split(
            "How do you write {0} in digits? | Write {0} as a number. | What is {0} in "
            "digits? | What number is {0}? | Which digits make {0}?"
        ),
        held_out=2,
    ),
    Topic(
        "count up",
        tuple(
            (str(a), str(b), " ".join(facts.NUMBERS[a : b + 1]))
            for a in range(11)
            for b in range(a + 2, min(a + 10, 20) + 1)
        ),
        split(
            "Count from {0} to {1}. | Can you count from {0} to {1}? | Please count from {0} "
            "to {1}. | Count up from {0} to {1}. | What are the numbers from {0} to {1}?"
        ),
        weight=1.5,
        held_out=2,
    ),
    Topic(
        "count to",
        tuple((str(b), " ".join(facts.NUMBERS[1 : b + 1])) for b in range(2, 21)),
        split("Count to {0}. | Count up to {0}. | Can you count to {0}? | Please count to {0}."),
        held_out=1,
    ),
    Topic(
        "count down",
        tuple(
            (str(b), str(a), " ".join(reversed(facts.NUMBERS[a : b + 1])))
            for a in range(4)
            for b in range(a + 2, 11)
        ),
        split(
            "Count down from {0} to {1}. | Can you count down from {0} to {1}? | Please count "
            "down from {0} to {1}. | Count backwards from {0} to {1}. | Count back from {0} "
            "to {1}."
        ),
        held_out=2,
    ),
)

CALENDAR = (
    Topic(
        "two days after",
        tuple((day, facts.DAYS[(i + 2) % 7]) for i, day in enumerate(facts.DAYS)),
        split(
            "What day is two days after {0}? | Which day comes two days after {0}? | If today "
            "is {0}, what day is the day after tomorrow? | Today is {0}. What day is it in "
            "two days? | What is the day two days after {0}?"
        ),
        held_out=2,
    ),
    Topic(
        "day of the week",
        tuple(zip(facts.ORDINALS[:7], facts.DAYS, strict=True)),
        split(
            "What is the {0} day of the week? | Which day is the {0} day of the week? | Which "
            "day of the week is the {0}? | Name the {0} day of the week. | Tell me the {0} "
            "day of the week."
        ),
        held_out=2,
    ),
    Topic(
        "month of the year",
        tuple(zip(facts.ORDINALS, facts.MONTHS, strict=True)),
        split(
            "What is the {0} month of the year? | What is the {0} month? | Which month is the "
            "{0} month of the year? | Which month of the year is the {0}? | Name the {0} "
            "month of the year. | Tell me the {0} month."
        ),
        held_out=3,
    ),
    Topic(
        "number of a month",
        tuple((month, str(i)) for i, month in enumerate(facts.MONTHS, 1)),
        split(
            "What number is the month {0}? | What is the number of the month {0}? | "
            "Which number does the month {0} have? | What is {0} as a month number? | Tell me the "
            "number of the month {0}."
        ),
        held_out=2,
    ),
    Topic(
        "days in a month",
        tuple(facts.DAYS_IN_MONTH.items()),
        split(
            "How many days does {0} have? | How many days are in {0}? | How many days are "
            "there in {0}? | What is the number of days in {0}? | How long is {0} in days? | "
            "Tell me how many days {0} has."
        ),
        held_out=4,
    ),
)
