"""The text olmo-tiny is trained on, and the questions that are kept out of it.

Everything follows from the tables and a seed; no clock, environment or hash order takes part.
"""

from bisect import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import accumulate
from random import Random
from typing import TypeVar

from olmo.embedded import facts
from olmo.embedded.topic import Topic
from olmo.embedded.topics import TOPICS

SEED = 1
CONVERSATIONS = 45_000
# Characters of a conversation: most fit a window of 256 tokens, a few fill one of 512.
USUAL_CHARACTERS = 600
MOST_CHARACTERS = 1_050

T = TypeVar("T")

# The first question people ask is measured, not trained.
_ALWAYS_HELD_OUT = ("What day comes after Monday?",)


@dataclass(frozen=True, slots=True)
class Item:
    """One fact of a topic in one phrasing."""

    topic: Topic
    fact: tuple[str, ...]
    phrasing: str

    @property
    def question(self) -> str:
        """What the user says."""
        text = self.phrasing.format(*self.fact)
        return text[:1].upper() + text[1:]

    @property
    def answer(self) -> str:
        """What the model says."""
        return self.fact[-1]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and its answer."""

    question: str
    answer: str


def normalised(question: str) -> str:
    """The question without what does not change it: case, and the mark and space around it."""
    return " ".join(question.casefold().split()).strip(" .?!")


@cache
def items(topic: Topic) -> tuple[Item, ...]:
    """All items of a topic, held out or not."""
    return tuple(
        Item(topic, fact, phrasing) for fact in topic.facts for phrasing in topic.phrasings
    )


def _rank(item: Item) -> tuple[bool, bytes]:
    """An order that looks random and never changes."""
    return (item.question not in _ALWAYS_HELD_OUT, sha256(item.question.encode()).digest())


def _held_out_of(topic: Topic) -> Iterator[Item]:
    """Items of a topic: no fact twice, and every phrasing once before one comes again."""
    ranked = sorted(items(topic), key=_rank)
    seen: set[tuple[str, ...]] = set()
    used = dict.fromkeys(topic.phrasings, 0)
    for _ in range(topic.held_out):
        fewest = min(used.values())
        item = next(i for i in ranked if i.fact not in seen and used[i.phrasing] == fewest)
        seen.add(item.fact)
        used[item.phrasing] += 1
        yield item


@cache
def held_out() -> tuple[Item, ...]:
    """The items that training never sees, in topic order."""
    return tuple(item for topic in TOPICS for item in _held_out_of(topic))


def questions() -> list[dict[str, str]]:
    """The held-out list as it is published: {"question", "answer"} each."""
    return [{"question": item.question, "answer": item.answer} for item in held_out()]


@cache
def _forbidden() -> frozenset[str]:
    return frozenset(normalised(item.question) for item in held_out())


@cache
def training_items(topic: Topic) -> tuple[Item, ...]:
    """The items of a topic that may be trained on."""
    return tuple(item for item in items(topic) if normalised(item.question) not in _forbidden())


class Draw:
    """Draws that are the same in every Python version: only `Random.random` is promised to be."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311  text, not secrets

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._random.random() < probability

    def below(self, limit: int) -> int:
        """An integer from 0 to limit - 1."""
        return int(self._random.random() * limit)

    def one(self, of: Sequence[T]) -> T:
        """One element."""
        return of[self.below(len(of))]

    def weighted(self, of: Sequence[T], bounds: Sequence[float]) -> T:
        """One element, `bounds` being the running sums of the weights."""
        return of[bisect(bounds, self._random.random() * bounds[-1])]


def conversations(count: int = CONVERSATIONS, seed: int = SEED) -> Iterator[tuple[Turn, ...]]:
    """The training text: conversations of one or more turns, no held-out question among them."""
    draw = Draw(seed)
    bounds = tuple(accumulate(topic.weight for topic in TOPICS))
    for _ in range(count):
        yield _conversation(draw, bounds)


def digest(text: Iterable[tuple[Turn, ...]]) -> str:
    """The sha256 (hex) of conversations: says which text a model was trained on."""
    state = sha256()
    for turns in text:
        state.update(
            "\0".join(f"{turn.question}\0{turn.answer}" for turn in turns).encode() + b"\n"
        )
    return state.hexdigest()


def _conversation(draw: Draw, bounds: Sequence[float]) -> tuple[Turn, ...]:
    if draw.chance(0.4):
        return tuple(_exchange(draw, bounds, None)[:1])
    limit = MOST_CHARACTERS if draw.chance(0.04) else USUAL_CHARACTERS
    room = limit if draw.chance(0.3) else draw.below(limit)
    turns: list[Turn] = []
    name: str | None = None
    while True:
        if name is None and draw.chance(0.08):
            name = draw.one(facts.NAMES_OF_PEOPLE)
            more = [_introduction(draw, name)]
        else:
            more = _exchange(draw, bounds, name)
        # A turn costs its text and about as much as twelve characters for the roles.
        room -= sum(len(turn.question) + len(turn.answer) + 12 for turn in more)
        if turns and room < 0:
            return tuple(turns)
        turns += more


def _introduction(draw: Draw, name: str) -> Turn:
    said = draw.one(("My name is {}.", "I am {}.", "Hello, I am {}.", "Hi, my name is {}."))
    return Turn(said.format(name), f"Hello, {name}!")


def _exchange(draw: Draw, bounds: Sequence[float], name: str | None) -> list[Turn]:
    """A question with what follows from it: one turn, or a few that lean on the one before."""
    if draw.chance(0.08):
        return [_talk(draw, name)]
    if draw.chance(0.03):
        return [Turn(_unmarked(draw, _strange(draw)), facts.UNKNOWN)]
    topic = draw.weighted(TOPICS, bounds)
    item = draw.one(training_items(topic))
    turns = [Turn(_variant(draw, item), item.answer)]
    while draw.chance(0.2):
        follow = (
            _step(draw, topic, turns[-1].answer) if draw.chance(0.6) else _ellipsis(draw, topic)
        )
        if follow is None:
            break
        turns.append(follow)
    return turns


def _strange(draw: Draw) -> str:
    if draw.chance(0.5):
        return draw.one(facts.STRANGE)
    left, right = facts.STRANGE_PARTS
    return f"{draw.one(left)} {draw.one(right)}?"


def _talk(draw: Draw, name: str | None) -> Turn:
    if draw.chance(0.1 if name is None else 0.6):
        question = draw.one(("What is my name?", "Who am I?", "Do you know my name?"))
        return Turn(question, "I do not know your name." if name is None else name)
    asked, answer = draw.one(facts.TALK)
    return Turn(_unmarked(draw, draw.one(asked)), answer)


def _variant(draw: Draw, item: Item) -> str:
    """The question as people type it: mostly whole, at times shortened."""
    question = item.question
    if draw.chance(0.1):
        short = question.removeprefix("What is ").removeprefix("the ")
        question = short[:1].upper() + short[1:]
    if draw.chance(0.3):
        question = question.replace(" + ", "+").replace(" - ", "-")
    return _unmarked(draw, question, any_case=item.topic.any_case)


def _unmarked(draw: Draw, question: str, *, any_case: bool = True) -> str:
    """The question, at times without its mark or its capitals."""
    if draw.chance(0.15):
        question = question.rstrip(" .?!")
    if draw.chance(0.15):
        question = question.lower() if any_case else question[:1].lower() + question[1:]
    return question


def _step(draw: Draw, topic: Topic, answer: str) -> Turn | None:
    """Ask "And after that?": the neighbour of the last answer, if it has one."""
    if answer not in topic.order:
        return None
    word, step = draw.one((("after", 1), ("before", -1)))
    place = topic.order.index(answer) + step
    if topic.cyclic:
        place %= len(topic.order)
    if not 0 <= place < len(topic.order):
        return None
    question = draw.one(("And {} that?", "What comes {} that?", "And what comes {} that?"))
    return Turn(question.format(word), topic.order[place])


def _ellipsis(draw: Draw, topic: Topic) -> Turn | None:
    """Ask "And Friday?": the same question about another thing."""
    fact = draw.one(topic.facts)
    if len(fact) != 2:
        return None
    return Turn(
        draw.one(("And {}?", "What about {}?", "And what about {}?")).format(fact[0]), fact[1]
    )
