"""What a topic is: facts, each of which can be asked in each of the topic's phrasings."""

from dataclasses import dataclass

from olmo.embedded.facts import Fact, successors, swapped


@dataclass(frozen=True, slots=True)
class Topic:
    """Facts (the last element is the answer) and phrasings with places {0}, {1}, … for the rest.

    `order` is the sequence that the answers belong to, if "And after that?" makes sense;
    `any_case` says that a question in lower case means the same; `weight` is how often the topic
    is asked; `held_out` is how many questions are kept from training.
    """

    name: str
    facts: tuple[Fact, ...]
    phrasings: tuple[str, ...]
    order: tuple[str, ...] = ()
    cyclic: bool = False
    any_case: bool = True
    weight: float = 1.0
    held_out: int = 4


def split(phrasings: str) -> tuple[str, ...]:
    """Phrasings separated by bars."""
    return tuple(phrasings.split(" | "))


_AFTER = (
    "What {kind} comes after {{0}}?",
    "What {kind} is after {{0}}?",
    "Which {kind} comes after {{0}}?",
    "Which {kind} follows {{0}}?",
    "Which {kind} comes right after {{0}}?",
    "What is the {kind} after {{0}}?",
    "What is the next {kind} after {{0}}?",
    "Tell me the {kind} after {{0}}.",
    "Name the {kind} that comes after {{0}}.",
    "What comes after {{0}}?",
)
_BEFORE = (
    "What {kind} comes before {{0}}?",
    "What {kind} is before {{0}}?",
    "Which {kind} comes before {{0}}?",
    "Which {kind} comes right before {{0}}?",
    "What is the {kind} before {{0}}?",
    "What is the {kind} just before {{0}}?",
    "Tell me the {kind} before {{0}}.",
    "Name the {kind} that comes before {{0}}.",
    "What comes before {{0}}?",
)


def neighbours(
    kind: str,
    order: tuple[str, ...],
    *,
    cyclic: bool = False,
    any_case: bool = True,
    weight: float = 1.0,
    after: tuple[str, ...] = (),
    before: tuple[str, ...] = (),
    held_out: int = 4,
) -> tuple[Topic, Topic]:
    """The two topics "what comes after" and "what comes before" of a sequence."""
    pairs = successors(order, cyclic=cyclic)
    name = f"{order[0]}…".lower()

    def topic(side: str, facts_of: tuple[Fact, ...], phrasings: tuple[str, ...]) -> Topic:
        return Topic(
            f"{kind} {side} {name}",
            facts_of,
            phrasings,
            order=order,
            cyclic=cyclic,
            any_case=any_case,
            weight=weight,
            held_out=held_out,
        )

    return (
        topic("after", pairs, (*(p.format(kind=kind) for p in _AFTER), *after)),
        topic("before", swapped(pairs), (*(p.format(kind=kind) for p in _BEFORE), *before)),
    )
