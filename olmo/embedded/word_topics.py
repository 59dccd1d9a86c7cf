"""Topics of words, things and letters."""

from olmo.embedded import facts
from olmo.embedded.facts import swapped
from olmo.embedded.topic import Topic, split

THINGS = (
    Topic(
        "colour",
        facts.COLOURS,
        split(
            "What colour is {0}? | What color is {0}? | Which colour is {0}? | Which color is "
            "{0}? | What is the colour of {0}? | What is the color of {0}? | Tell me the "
            "colour of {0}. | Name the color of {0}. | What colour does {0} have?"
        ),
        weight=1.5,
        held_out=8,
    ),
    Topic(
        "opposite",
        (*facts.OPPOSITES, *swapped(facts.OPPOSITES)),
        split(
            "What is the opposite of {0}? | What's the opposite of {0}? | Which word is the "
            "opposite of {0}? | Tell me the opposite of {0}. | Name the opposite of {0}. | "
            "What is the contrary of {0}? | Give me the opposite of {0}. | {0} is the "
            "opposite of what?"
        ),
        weight=2,
        held_out=8,
    ),
    Topic(
        "plural",
        facts.PLURALS,
        split(
            "What is the plural of {0}? | What's the plural of {0}? | Tell me the plural of "
            "{0}. | Give me the plural of {0}. | Which word is the plural of {0}? | What do "
            "you call more than one {0}? | What are two of {0} called? | One {0}, two what?"
        ),
        weight=1.5,
        held_out=6,
    ),
    Topic(
        "singular",
        swapped(facts.PLURALS),
        split(
            "What is the singular of {0}? | What's the singular of {0}? | Tell me the "
            "singular of {0}. | Give me the singular of {0}. | What do you call just one of "
            "{0}? | Which word is the singular of {0}?"
        ),
        held_out=3,
    ),
    Topic(
        "past tense",
        facts.PAST_TENSES,
        split(
            "What is the past tense of {0}? | What's the past tense of {0}? | Tell me the "
            "past tense of {0}. | Give me the past tense of {0}. | Which word is the past "
            "tense of {0}? | What is the past of {0}?"
        ),
        held_out=3,
    ),
    Topic(
        "sound",
        facts.SOUNDS,
        split(
            "What does {0} say? | What sound does {0} make? | Which sound does {0} make? | "
            "What noise does {0} make? | What is the sound of {0}? | How does {0} sound? | "
            "Tell me the sound of {0}."
        ),
        held_out=3,
    ),
    Topic(
        "baby",
        facts.BABIES,
        split(
            "What is the baby of {0} called? | What do you call the baby of {0}? | What is "
            "the young of {0} called? | What is the name for the baby of {0}? | What do you "
            "call the young of {0}?"
        ),
        held_out=3,
    ),
    Topic(
        "legs",
        facts.LEGS,
        split(
            "How many legs does {0} have? | How many legs has {0}? | What is the number of "
            "legs of {0}? | Tell me how many legs {0} has. | On how many legs does {0} stand?"
        ),
        held_out=3,
    ),
    Topic(
        "sides",
        facts.SIDES,
        split(
            "How many sides does {0} have? | How many sides has {0}? | What is the number of "
            "sides of {0}? | Tell me how many sides {0} has. | How many corners does {0} "
            "have?"
        ),
        held_out=2,
    ),
    Topic(
        "capital city",
        facts.CITIES,
        split(
            "What is the capital of {0}? | What's the capital of {0}? | Which city is the "
            "capital of {0}? | Tell me the capital of {0}. | Name the capital of {0}. | What "
            "is the capital city of {0}?"
        ),
        held_out=5,
    ),
)

LETTERS = (
    Topic(
        "capital letter",
        tuple((c, c.upper()) for c in facts.SMALL_LETTERS),
        split(
            "What is the capital letter for {0}? | What is the upper case of {0}? | Write {0} "
            "as a capital letter. | What is the capital form of {0}? | What is {0} in upper "
            "case?"
        ),
        any_case=False,
        held_out=3,
    ),
    Topic(
        "small letter",
        tuple((c, c.lower()) for c in facts.CAPITALS),
        split(
            "What is the small letter for {0}? | What is the lower case of {0}? | Write {0} "
            "as a small letter. | What is the small form of {0}? | What is {0} in lower case?"
        ),
        any_case=False,
        held_out=3,
    ),
    Topic(
        "first letter",
        tuple((word, word[0]) for word in facts.WORDS),
        split(
            "What is the first letter of {0}? | What is the first letter of the word {0}? | "
            "Which letter does {0} start with? | With which letter does {0} begin? | What "
            "letter does the word {0} start with? | Tell me the first letter of {0}."
        ),
        held_out=4,
    ),
    Topic(
        "last letter",
        tuple((word, word[-1]) for word in facts.WORDS),
        split(
            "What is the last letter of {0}? | What is the last letter of the word {0}? | "
            "Which letter does {0} end with? | With which letter does {0} end? | What letter "
            "does the word {0} end with? | Tell me the last letter of {0}."
        ),
        held_out=3,
    ),
    Topic(
        "spelling",
        tuple((word, "-".join(word)) for word in facts.WORDS),
        split(
            "How do you spell {0}? | Spell {0}. | Spell the word {0}. | Can you spell {0}? | "
            "How is {0} spelled?"
        ),
        held_out=2,
    ),
)
