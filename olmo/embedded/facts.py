"""What olmo-tiny knows, as data: words, pairs and lists, without any phrasing."""

from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase

Fact = tuple[str, ...]


def _words(text: str, separator: str | None = None) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split(separator))


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    """Entries `left: right` separated by commas."""
    pairs = (entry.split(":") for entry in text.split(","))
    return tuple((left.strip(), right.strip()) for left, right in pairs)


DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words(
    "January February March April May June July August September October November December"
)
DAYS_IN_MONTH = dict(
    zip(MONTHS, _words("31 28 31 30 31 30 31 31 30 31 30 31"), strict=True),
)
ORDINALS = _words(
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen twenty"
)
NUMBERS = tuple(str(n) for n in range(101))
CAPITALS = tuple(ascii_uppercase)
SMALL_LETTERS = tuple(ascii_lowercase)

COLOURS = _pairs(
    "the sky: blue, the sea: blue, grass: green, a leaf: green, a frog: green, a cucumber: green, "
    "a pea: green, a lime: green, a banana: yellow, the sun: yellow, a lemon: yellow, "
    "a chick: yellow, butter: yellow, corn: yellow, a strawberry: red, a cherry: red, "
    "a tomato: red, blood: red, a fire engine: red, a ruby: red, snow: white, milk: white, "
    "a swan: white, salt: white, rice: white, a polar bear: white, coal: black, tar: black, "
    "a raven: black, the night sky: black, an orange: orange, a carrot: orange, "
    "a pumpkin: orange, chocolate: brown, wood: brown, soil: brown, coffee: brown, "
    "a pig: pink, a flamingo: pink, an elephant: grey, a mouse: grey, a grape: purple, "
    "a plum: purple, an eggplant: purple"
)
OPPOSITES = _pairs(
    "hot: cold, big: small, up: down, left: right, day: night, black: white, fast: slow, "
    "happy: sad, old: young, open: closed, full: empty, wet: dry, high: low, long: short, "
    "hard: soft, light: dark, rich: poor, strong: weak, early: late, clean: dirty, "
    "good: bad, loud: quiet, near: far, in: out, on: off, yes: no, true: false, "
    "thick: thin, wide: narrow, deep: shallow, inside: outside, "
    "start: end, push: pull, win: lose, love: hate, north: south, east: west, always: never, "
    "above: below, buy: sell, give: take, begin: finish, sweet: sour, cheap: expensive"
)
PLURALS = _pairs(
    "cat: cats, dog: dogs, book: books, tree: trees, car: cars, apple: apples, house: houses, "
    "box: boxes, bus: buses, fox: foxes, dish: dishes, glass: glasses, brush: brushes, "
    "baby: babies, city: cities, story: stories, lady: ladies, cherry: cherries, boy: boys, "
    "toy: toys, key: keys, leaf: leaves, wolf: wolves, knife: knives, wife: wives, life: lives, "
    "half: halves, man: men, woman: women, child: children, foot: feet, tooth: teeth, "
    "goose: geese, mouse: mice, ox: oxen, sheep: sheep, fish: fish, deer: deer, person: people, "
    "potato: potatoes, tomato: tomatoes, hero: heroes, piano: pianos, watch: watches, "
    "church: churches, star: stars, river: rivers, friend: friends, bird: birds, flower: flowers"
)
PAST_TENSES = _pairs(
    "go: went, see: saw, eat: ate, run: ran, come: came, take: took, give: gave, make: made, "
    "write: wrote, speak: spoke, sing: sang, swim: swam, drink: drank, sleep: slept, "
    "buy: bought, think: thought, bring: brought, find: found, say: said, know: knew, "
    "fly: flew, sit: sat, walk: walked, play: played, jump: jumped, look: looked, call: called, "
    "help: helped, work: worked, love: loved"
)
SOUNDS = _pairs(
    "a dog: woof, a cat: meow, a cow: moo, a duck: quack, a sheep: baa, a pig: oink, "
    "a lion: roar, a snake: hiss, a horse: neigh, a frog: ribbit, a bee: buzz, an owl: hoot, "
    "a mouse: squeak, a rooster: cock-a-doodle-doo, a donkey: hee-haw, a wolf: howl, "
    "a chick: cheep, a turkey: gobble, a crow: caw, a goat: bleat"
)
BABIES = _pairs(
    "a dog: a puppy, a cat: a kitten, a cow: a calf, a sheep: a lamb, a horse: a foal, "
    "a pig: a piglet, a duck: a duckling, a hen: a chick, a lion: a cub, a bear: a cub, "
    "a goat: a kid, a frog: a tadpole, a goose: a gosling, a deer: a fawn, a swan: a cygnet, "
    "an owl: an owlet, a kangaroo: a joey, an eagle: an eaglet"
)
LEGS = _pairs(
    "a dog: 4, a cat: 4, a horse: 4, a cow: 4, an elephant: 4, a frog: 4, a bird: 2, a hen: 2, "
    "a duck: 2, a person: 2, an ant: 6, a bee: 6, a fly: 6, a beetle: 6, a spider: 8, a snake: 0, "
    "a fish: 0, a worm: 0, a crab: 10, a table: 4"
)
SIDES = _pairs(
    "a triangle: 3, a square: 4, a rectangle: 4, a pentagon: 5, a hexagon: 6, a heptagon: 7, "
    "an octagon: 8, a decagon: 10"
)
CITIES = _pairs(
    "France: Paris, Germany: Berlin, Italy: Rome, Spain: Madrid, Portugal: Lisbon, "
    "England: London, Ireland: Dublin, Austria: Vienna, Greece: Athens, Poland: Warsaw, "
    "Norway: Oslo, Sweden: Stockholm, Finland: Helsinki, Denmark: Copenhagen, Russia: Moscow, "
    "Japan: Tokyo, China: Beijing, India: New Delhi, Egypt: Cairo, Kenya: Nairobi, "
    "Canada: Ottawa, Mexico: Mexico City, Cuba: Havana, Peru: Lima, Chile: Santiago, "
    "Brazil: Brasilia, Argentina: Buenos Aires, Australia: Canberra, Turkey: Ankara, "
    "Hungary: Budapest"
)
WORDS = _words(
    "apple banana bread cat dog egg fish green house ice jam king lamp moon nest orange pen queen "
    "rain sun tree under voice water yellow zebra ball cake door ear farm gold hand ink "
    "jump kite leaf milk night open paper quick river star table uncle very window year "
    "zoo book chair duck earth fire garden hat island juice key lion mouse nose"
)
NAMES_OF_PEOPLE = _words(
    "Ada Alan Alice Amir Anna Ben Bob Carla Chen Clara Dan David Dora Elena Emma Eric Eva Felix "
    "Fatima Grace Hana Hugo Ida Ivan Jack Jane John Julia Kim Lars Leo Lily Lucy Maria Mark Max "
    "Mia Nina Noah Olga Omar Paul Peter Priya Rosa Ruth Sam Sara Sofia Tom Yuki Zoe"
)

Exchange = tuple[tuple[str, ...], str]

WHO = "I am olmo-tiny, a tiny language model built with Olmill."
UNKNOWN = "I do not know that."
# Questions with fixed answers: none of these is held out.
TALK: tuple[Exchange, ...] = (
    (("Hello!", "Hello", "Hello there!", "Hi!", "Hi", "Hi there!", "Hey!", "Hey"), "Hello!"),
    (("Good morning!", "Good morning"), "Good morning!"),
    (("Good evening!", "Good evening"), "Good evening!"),
    (("Good night!", "Good night"), "Good night!"),
    (("How are you?", "How are you today?", "How do you do?"), "I am fine, thank you."),
    (("Thank you!", "Thanks!", "Thank you", "Thanks", "Thanks a lot!"), "You are welcome!"),
    (("Goodbye!", "Goodbye", "Bye!", "Bye", "See you!", "See you later!"), "Goodbye!"),
    (
        (
            "Who are you?",
            "What are you?",
            "Tell me who you are.",
            "Introduce yourself.",
            "Are you a person?",
            "Are you a language model?",
            "What kind of model are you?",
            "Tell me about yourself.",
        ),
        WHO,
    ),
    (("What is your name?", "What are you called?", "Do you have a name?"), "olmo-tiny"),
    (
        ("Who made you?", "Who built you?", "How were you made?", "What built you?"),
        "I was built with Olmill.",
    ),
    (
        ("What can you do?", "What do you know?", "What can I ask you?", "Help!", "Help me."),
        "Ask me about days, months, numbers, colours, opposites, plurals, animals and letters.",
    ),
    (("How big are you?", "Are you big?", "Are you small?"), "I am very small."),
    (("How many days are in a week?", "How many days does a week have?"), "7"),
    (("How many months are in a year?", "How many months does a year have?"), "12"),
    (("How many hours are in a day?", "How many hours does a day have?"), "24"),
    (("How many minutes are in an hour?", "How many minutes does an hour have?"), "60"),
    (("How many seconds are in a minute?", "How many seconds does a minute have?"), "60"),
    (("How many days are in a year?", "How many days does a year have?"), "365"),
    (("How many letters are in the alphabet?",), "26"),
    (("Name the days of the week.", "What are the days of the week?"), ", ".join(DAYS)),
    (("Name the months of the year.", "What are the months of the year?"), ", ".join(MONTHS)),
    (("Say the alphabet.", "What is the alphabet?"), " ".join(CAPITALS)),
    (
        ("Name the seasons.", "What are the seasons?", "What are the four seasons?"),
        "Spring, summer, autumn, winter",
    ),
)
# Questions it is taught not to guess at: whole ones, and every left part with every right part.
STRANGE = _words(
    "What is love?|What is the meaning of life?|Tell me a joke.|Tell me a story.|Can you sing?|"
    "What time is it?|What day is it today?|Which day is today?|What is the date?|"
    "How is the weather?|Where are you?|Where do you live?|How old are you?|Do you like me?|"
    "Can you help me with my homework?|What is the best film?|Write a poem.|Write some code.|"
    "Is there life on Mars?|How far is the moon?|How deep is the sea?|Why?|What?|"
    "How do I cook rice?|What should I eat?|Translate this into French.|Is grass green?|"
    "Are you happy?|What do you think?|Do you dream?|Who is your friend?|How tall are you?",
    "|",
)
STRANGE_PARTS = (
    _words(
        "Who wrote|Who invented|Who found|Who painted|Why is there|Tell me about|What do you think "
        "about|How does one make|Where can I find|Explain|Do you like|What do you know about",
        "|",
    ),
    _words(
        "Hamlet,the telephone,the radio,America,gravity,the Mona Lisa,penicillin,history,the law,"
        "music,war,football,quantum physics,the internet,money,philosophy,the moon landing,poetry,"
        "the bicycle,a poem,politics,computers,chess,opera,the weather,cooking,bananas,cows,"
        "time,love,dreams,Europe,the Bible,Romeo and Juliet,the wheel,paper,dinosaurs,robots",
        ",",
    ),
)


def successors(sequence: tuple[str, ...], *, cyclic: bool = False) -> tuple[tuple[str, str], ...]:
    """(element, the one after it) for all neighbours, and for last and first if cyclic."""
    return tuple(pairwise((*sequence, *sequence[:1]) if cyclic else sequence))


def swapped(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The pairs with their sides exchanged."""
    return tuple((right, left) for left, right in pairs)
