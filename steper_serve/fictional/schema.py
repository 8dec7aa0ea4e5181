"""What there is in an invented world: kinds of entity, and the relations between them.

Data only. `{s}` stands for the entity that a relation belongs to, `{o}` for what it leads to,
`{x}` for any way of naming the former. What is left out: which entity leads to which (world), and
how passages and questions are put together (passages, questions).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity.

    Args:
        name: its noun ("film").
        share: entities of this kind in 1,000 passages.
        naming: "person", "work" (a title), or a pattern with `{w}` (a word of its own) or `{b}`
            (a word borrowed from people and places).
        openings: first sentences of its passage: `{n}` is the name, `{birth_year}` and the like
            what the relation of that noun (always present) leads to, `{role}` an occupation.
    """

    name: str
    share: int
    naming: str
    openings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation, with all the ways of speaking of it.

    Args:
        subject: a kind.
        noun: what `{o}` is of `{s}` ("director"); thoughts use it.
        object: a kind, an occupation ("person:director"), or a kind of value ("year:1900:2010",
            "number:100:900:m").
        presence: how many of 100 subjects have it.
        asks: questions for it.
        phrases: noun phrases for what it leads to.
        tells: sentences of a passage, `{it}` being the passage's subject.
        told_by_object: whether the passage of `{o}`, not that of `{s}`, states it.
        describes: what may stand for the name of `{s}` behind its kind ("set in {o}").
        compares: questions for which of `{x}` and `{y}` has the smaller value, and the greater.
        same: a question for whether it leads to the same for `{x}` and `{y}`.
    """

    subject: str
    noun: str
    object: str
    presence: int
    asks: tuple[str, ...]
    phrases: tuple[str, ...]
    tells: tuple[str, ...]
    told_by_object: bool = False
    describes: str = ""
    compares: tuple[str, ...] = ()
    same: str = ""

    @property
    def key(self) -> str:
        return f"{self.subject}.{self.noun}"

    @property
    def is_value(self) -> bool:
        """Whether it leads to a year or a quantity, not to an entity."""
        return self.object.startswith(("year:", "number:"))


# Occupations, and how many of 32 people have each.
OCCUPATIONS = {
    "director": 4,
    "composer": 4,
    "actor": 4,
    "novelist": 3,
    "producer": 2,
    "singer": 1,
    "architect": 1,
    "biologist": 1,
    "mountaineer": 1,
    "captain": 1,
    "politician": 3,
    "coach": 1,
    "industrialist": 2,
    "scholar": 2,
    "editor": 1,
    "sculptor": 1,
}

# Titles of films, novels and albums.
TITLES = (
    "{w} Nights",
    "The Road to {w}",
    "The Lanterns of {w}",
    "Return to {w}",
    "A Winter in {w}",
    "{w} Rising",
    "The Last Day of {w}",
    "Letters from {w}",
    "Beyond {w}",
    "The House of {w}",
    "Farewell, {w}",
    "The Other {w}",
)

KINDS = (
    Kind(
        "person",
        330,
        "person",
        (
            "{n} (born {birth_year}) was {role}.",
            "{n} was {role} from {birthplace}.",
            "Born in {birth_year}, {n} was {role}.",
        ),
    ),
    Kind("city", 80, "{w}", ("{n} is a city in {province}.", "{n} is a town of {province}.")),
    Kind("province", 16, "{w} Province", ("{n} is a province of the {country}.",)),
    Kind("country", 4, "{w} Republic", ("The {n} is a country.", "The {n} is a sovereign state.")),
    Kind(
        "river",
        20,
        "{w} River",
        ("The {n} is a river that rises on {source}.", "The {n} flows from {source}."),
    ),
    Kind(
        "mountain",
        24,
        "Mount {w}",
        ("{n} is a mountain in {province}.", "{n} is a peak in {province}."),
    ),
    Kind(
        "film",
        130,
        "work",
        (
            "{n} is a {release_year} film.",
            "{n} is a {release_year} drama film.",
            "{n} is a film released in {release_year}.",
        ),
    ),
    Kind(
        "novel",
        80,
        "work",
        ("{n} is a {publication_year} novel.", "{n} is a novel published in {publication_year}."),
    ),
    Kind(
        "album",
        50,
        "work",
        (
            "{n} is a {release_year} album.",
            "{n} is an album by {artist}.",
            "{n} is an album released in {release_year}.",
        ),
    ),
    Kind(
        "band",
        36,
        "The {b} Quartet",
        ("{n} were a band from {hometown}.", "{n} were a group formed in {hometown}."),
    ),
    Kind(
        "company",
        50,
        "{b} Works",
        (
            "{n} is a company based in {headquarters}.",
            "{n} is a firm with its seat in {headquarters}.",
        ),
    ),
    Kind(
        "university",
        28,
        "University of {b}",
        ("The {n} is a university in {location}.", "The {n} is located in {location}."),
    ),
    Kind(
        "team",
        30,
        "{b} Rovers",
        ("{n} are a football team from {home_city}.", "{n} are a football club of {home_city}."),
    ),
    Kind(
        "stadium",
        24,
        "{b} Park",
        ("{n} is a stadium in {location}.", "{n} is a football ground in {location}."),
    ),
    Kind(
        "species",
        30,
        "{b} moth",
        ("The {n} is a moth found in {habitat}.", "The {n} is a moth native to {habitat}."),
    ),
    Kind(
        "ship",
        26,
        "SS {b}",
        (
            "The {n} was a steamship launched in {launch_year}.",
            "The {n} was a {launch_year} steamship.",
        ),
    ),
    Kind(
        "award",
        14,
        "{b} Prize",
        ("The {n} is a prize given in {host_city}.", "The {n} is awarded in {host_city}."),
    ),
    Kind(
        "museum",
        18,
        "{b} Museum",
        ("The {n} is a museum in {location}.", "The {n} is located in {location}."),
    ),
    Kind(
        "newspaper",
        16,
        "The {b} Herald",
        (
            "{n} is a newspaper published in {home_city}.",
            "{n} is a daily newspaper of {home_city}.",
        ),
    ),
)

# Kinds whose name takes an article inside a sentence.
WITH_ARTICLE = frozenset("country river university species ship award museum".split())

_R = Relation
RELATIONS = (
    _R(
        "person",
        "birth year",
        "year:1860:1980",
        100,
        ("In which year was {x} born?", "When was {x} born?"),
        (),
        ("{it} was born in {o}.",),
        compares=("Who was born first, {x} or {y}?", "Who was born later, {x} or {y}?"),
    ),
    _R(
        "person",
        "birthplace",
        "city",
        100,
        ("Where was {x} born?", "In which city was {x} born?", "What is the birthplace of {x}?"),
        ("the birthplace of {x}", "the city where {x} was born"),
        (
            "{it} was born in {o}.",
            "{it} came from {o}.",
            "{it} grew up in {o}, where {they} had been born.",
        ),
        describes="born in {o}",
        same="Were {x} and {y} born in the same city?",
    ),
    _R(
        "person",
        "alma mater",
        "university",
        60,
        ("Where did {x} study?", "What is the alma mater of {x}?"),
        ("the alma mater of {x}", "the university where {x} studied"),
        (
            "{it} studied at the {o}.",
            "{it} was educated at the {o}.",
            "{it} graduated from the {o}.",
        ),
        describes="educated at the {o}",
        same="Did {x} and {y} study at the same university?",
    ),
    _R(
        "person",
        "spouse",
        "person",
        70,
        ("Who was the spouse of {x}?", "To whom was {x} married?"),
        ("the spouse of {x}", "the person married to {x}"),
        ("{it} was married to {o}.", "{it} married {o}.", "{their} spouse was {o}."),
    ),
    _R(
        "person",
        "award",
        "award",
        40,
        ("Which award did {x} receive?", "What is the award of {x}?"),
        ("the award of {x}", "the award that {x} received"),
        ("{it} received the {o}.", "{it} won the {o}.", "{it} was honoured with the {o}."),
    ),
    _R(
        "person",
        "mentor",
        "person",
        30,
        ("Who was the mentor of {x}?", "Who taught {x}?"),
        ("the mentor of {x}", "the person who taught {x}"),
        ("{it} was a pupil of {o}.", "{it} learned the trade from {o}.", "{their} mentor was {o}."),
        describes="taught by {o}",
    ),
    _R(
        "city",
        "province",
        "province",
        100,
        ("In which province is {x}?", "What is the province of {x}?"),
        ("the province of {x}", "the province where {x} lies"),
        ("It lies in {o}.",),
        same="Are {x} and {y} in the same province?",
    ),
    _R(
        "city",
        "mayor",
        "person:politician",
        100,
        ("Who is the mayor of {x}?", "Who leads the council of {x}?"),
        ("the mayor of {x}",),
        ("Its mayor is {o}.", "{o} was elected mayor.", "The council is led by {o}."),
    ),
    _R(
        "city",
        "river",
        "river",
        60,
        ("On which river does {x} lie?", "What is the river of {x}?"),
        ("the river of {x}", "the river on which {x} lies"),
        ("It lies on the {o}.", "The {o} runs through it.", "It stands on the banks of the {o}."),
        describes="on the {o}",
    ),
    _R(
        "city",
        "founding year",
        "year:1100:1900",
        60,
        ("In which year was {x} founded?", "When was {x} founded?"),
        (),
        ("It was founded in {o}.", "It dates from {o}."),
        compares=("Which was founded first, {x} or {y}?", "Which was founded later, {x} or {y}?"),
    ),
    _R(
        "province",
        "country",
        "country",
        100,
        ("In which country is {x}?", "What is the country of {x}?"),
        ("the country of {x}",),
        ("It belongs to the {o}.",),
    ),
    _R(
        "province",
        "capital",
        "city",
        100,
        ("What is the capital of {x}?",),
        ("the capital of {x}", "the city that governs {x}"),
        (
            "Its capital is {o}.",
            "It is governed from {o}.",
            "The provincial government sits in {o}.",
        ),
    ),
    _R(
        "country",
        "leader",
        "person:politician",
        100,
        ("Who leads {x}?", "Who is the leader of {x}?"),
        ("the leader of {x}",),
        ("It is led by {o}.", "Its president is {o}."),
    ),
    _R(
        "country",
        "capital",
        "city",
        100,
        ("What is the capital of {x}?",),
        ("the capital of {x}",),
        ("Its capital is {o}.", "The seat of government is {o}."),
    ),
    _R(
        "river",
        "source",
        "mountain",
        100,
        ("Where does {x} rise?", "What is the source of {x}?"),
        ("the source of {x}", "the mountain where {x} rises"),
        ("It rises on {o}.",),
        describes="that rises on {o}",
    ),
    _R(
        "river",
        "length",
        "number:60:900:kilometres",
        100,
        ("How long is {x}?", "What is the length of {x}?"),
        (),
        ("It is {o} long.", "Its length is {o}."),
        compares=("Which is shorter, {x} or {y}?", "Which is longer, {x} or {y}?"),
    ),
    _R(
        "mountain",
        "province",
        "province",
        100,
        ("In which province is {x}?", "What is the province of {x}?"),
        ("the province of {x}",),
        ("It lies in {o}.",),
        describes="in {o}",
        same="Are {x} and {y} in the same province?",
    ),
    _R(
        "mountain",
        "height",
        "number:900:7900:metres",
        100,
        ("How high is {x}?", "What is the height of {x}?"),
        (),
        ("It is {o} high.", "Its summit stands at {o}."),
        compares=("Which is lower, {x} or {y}?", "Which is higher, {x} or {y}?"),
    ),
    _R(
        "mountain",
        "first climber",
        "person:mountaineer",
        90,
        ("Who first climbed {x}?", "Who was the first climber of {x}?"),
        ("the first climber of {x}", "the mountaineer who first climbed {x}"),
        (
            "{it} made the first ascent of {s}.",
            "{it} was the first to climb {s}.",
            "{it} conquered {s}.",
        ),
        told_by_object=True,
    ),
    _R(
        "film",
        "release year",
        "year:1912:2015",
        100,
        ("In which year was {x} released?", "When did {x} come out?"),
        (),
        ("It was released in {o}.",),
        compares=("Which came out first, {x} or {y}?", "Which came out later, {x} or {y}?"),
    ),
    _R(
        "film",
        "director",
        "person:director",
        100,
        ("Who directed {x}?", "Who was the director of {x}?"),
        ("the director of {x}", "the person who directed {x}"),
        ("It was directed by {o}.", "{o} directed it.", "Its director was {o}."),
        describes="directed by {o}",
        same="Were {x} and {y} directed by the same person?",
    ),
    _R(
        "film",
        "composer",
        "person:composer",
        75,
        ("Who composed the music of {x}?", "Who was the composer of {x}?"),
        ("the composer of {x}", "the person who composed the music of {x}"),
        ("{it} wrote the music for {s}.", "{it} scored {s}.", "{it} was the composer of {s}."),
        told_by_object=True,
    ),
    _R(
        "film",
        "lead actor",
        "person:actor",
        70,
        ("Who starred in {x}?", "Who was the lead actor of {x}?"),
        ("the lead actor of {x}", "the star of {x}"),
        ("It stars {o}.", "{o} played the lead.", "The main part went to {o}."),
        describes="starring {o}",
    ),
    _R(
        "film",
        "setting",
        "city",
        85,
        ("Where is {x} set?", "What is the setting of {x}?"),
        ("the setting of {x}", "the city where {x} is set"),
        ("It is set in {o}.", "The story takes place in {o}.", "The plot unfolds in {o}."),
        describes="set in {o}",
        same="Are {x} and {y} set in the same city?",
    ),
    _R(
        "film",
        "studio",
        "company",
        50,
        ("Which studio made {x}?", "What is the studio of {x}?"),
        ("the studio of {x}", "the company that made {x}"),
        ("It was produced by {o}.", "{o} financed it.", "It was made by {o}."),
        describes="produced by {o}",
    ),
    _R(
        "novel",
        "author",
        "person:novelist",
        100,
        ("Who wrote {x}?", "Who is the author of {x}?"),
        ("the author of {x}", "the person who wrote {x}"),
        ("It was written by {o}.", "{o} wrote it.", "Its author is {o}."),
        describes="by {o}",
        same="Were {x} and {y} written by the same person?",
    ),
    _R(
        "novel",
        "publication year",
        "year:1850:2015",
        100,
        ("In which year was {x} published?", "When did {x} appear?"),
        (),
        ("It was published in {o}.",),
        compares=(
            "Which was published first, {x} or {y}?",
            "Which was published later, {x} or {y}?",
        ),
    ),
    _R(
        "novel",
        "setting",
        "city",
        70,
        ("Where is {x} set?", "What is the setting of {x}?"),
        ("the setting of {x}", "the city where {x} is set"),
        ("It is set in {o}.", "The story takes place in {o}.", "Its plot unfolds in {o}."),
        describes="set in {o}",
        same="Are {x} and {y} set in the same city?",
    ),
    _R(
        "novel",
        "publisher",
        "company",
        50,
        ("Who published {x}?", "What is the publisher of {x}?"),
        ("the publisher of {x}", "the company that published {x}"),
        ("It was published by {o}.", "{o} brought it out.", "Its publisher was {o}."),
        describes="published by {o}",
    ),
    _R(
        "album",
        "artist",
        "band",
        100,
        ("Which band recorded {x}?", "Who is the artist of {x}?"),
        ("the artist of {x}", "the band that recorded {x}"),
        ("It was recorded by {o}.", "{o} recorded it.", "It is by {o}."),
        describes="by {o}",
        same="Were {x} and {y} recorded by the same band?",
    ),
    _R(
        "album",
        "release year",
        "year:1955:2015",
        100,
        ("In which year was {x} released?", "When did {x} come out?"),
        (),
        ("It was released in {o}.",),
        compares=("Which came out first, {x} or {y}?", "Which came out later, {x} or {y}?"),
    ),
    _R(
        "album",
        "producer",
        "person:producer",
        80,
        ("Who produced {x}?", "Who was the producer of {x}?"),
        ("the producer of {x}", "the person who produced {x}"),
        ("{it} produced {s}.", "{it} was the producer of {s}.", "{it} worked on {s} as producer."),
        told_by_object=True,
    ),
    _R(
        "band",
        "hometown",
        "city",
        100,
        ("Where were {x} formed?", "What is the hometown of {x}?"),
        ("the hometown of {x}", "the city where {x} were formed"),
        ("They were formed in {o}.",),
        describes="from {o}",
    ),
    _R(
        "band",
        "singer",
        "person:singer",
        100,
        ("Who sang in {x}?", "Who is the singer of {x}?"),
        ("the singer of {x}", "the person who sang in {x}"),
        ("Their singer was {o}.", "{o} sang in the band.", "They were fronted by {o}."),
        describes="fronted by {o}",
    ),
    _R(
        "company",
        "headquarters",
        "city",
        100,
        ("Where is {x} based?", "What is the headquarters of {x}?"),
        ("the headquarters of {x}", "the city where {x} is based"),
        ("It is based in {o}.",),
        describes="based in {o}",
        same="Are {x} and {y} based in the same city?",
    ),
    _R(
        "company",
        "founder",
        "person:industrialist",
        85,
        ("Who founded {x}?", "Who was the founder of {x}?"),
        ("the founder of {x}", "the person who founded {x}"),
        ("It was founded by {o}.", "{o} founded it.", "It was established by {o}."),
        describes="founded by {o}",
    ),
    _R(
        "company",
        "founding year",
        "year:1810:2000",
        100,
        ("In which year was {x} founded?", "When was {x} founded?"),
        (),
        ("It was founded in {o}.", "It was established in {o}."),
        compares=("Which was founded first, {x} or {y}?", "Which was founded later, {x} or {y}?"),
    ),
    _R(
        "university",
        "location",
        "city",
        100,
        ("Where is {x}?", "What is the location of {x}?"),
        ("the location of {x}", "the city where {x} is located"),
        ("It is located in {o}.",),
        describes="in {o}",
    ),
    _R(
        "university",
        "rector",
        "person:scholar",
        100,
        ("Who is the rector of {x}?", "Who heads {x}?"),
        ("the rector of {x}", "the person who heads {x}"),
        ("Its rector is {o}.", "{o} is the rector.", "It is headed by {o}."),
        describes="headed by {o}",
    ),
    _R(
        "team",
        "home city",
        "city",
        100,
        ("Where do {x} come from?", "What is the home city of {x}?"),
        ("the home city of {x}",),
        ("They come from {o}.",),
        describes="from {o}",
    ),
    _R(
        "team",
        "stadium",
        "stadium",
        100,
        ("Where do {x} play?", "What is the stadium of {x}?"),
        ("the stadium of {x}", "the ground where {x} play"),
        ("They play at {o}.", "Their home ground is {o}.", "Home games take place at {o}."),
        describes="that plays at {o}",
    ),
    _R(
        "team",
        "coach",
        "person:coach",
        90,
        ("Who coaches {x}?", "Who is the coach of {x}?"),
        ("the coach of {x}", "the person who coaches {x}"),
        ("They are coached by {o}.", "{o} coaches them.", "Their coach is {o}."),
        describes="coached by {o}",
    ),
    _R(
        "stadium",
        "location",
        "city",
        100,
        ("Where is {x}?", "What is the location of {x}?"),
        ("the location of {x}",),
        ("It is located in {o}.",),
        describes="in {o}",
    ),
    _R(
        "stadium",
        "capacity",
        "number:4000:90000:seats",
        100,
        ("How many seats does {x} have?", "What is the capacity of {x}?"),
        (),
        ("It holds {o}.", "Its capacity is {o}."),
        compares=("Which has fewer seats, {x} or {y}?", "Which has more seats, {x} or {y}?"),
    ),
    _R(
        "stadium",
        "architect",
        "person:architect",
        80,
        ("Who designed {x}?", "Who was the architect of {x}?"),
        ("the architect of {x}", "the person who designed {x}"),
        ("{it} designed {s}.", "{it} was the architect of {s}.", "{it} drew the plans of {s}."),
        told_by_object=True,
    ),
    _R(
        "species",
        "habitat",
        "province",
        100,
        ("Where is {x} found?", "What is the habitat of {x}?"),
        ("the habitat of {x}", "the province where {x} is found"),
        ("It lives in {o}.",),
        describes="found in {o}",
        same="Are {x} and {y} found in the same province?",
    ),
    _R(
        "species",
        "wingspan",
        "number:12:190:millimetres",
        100,
        ("How wide is {x}?", "What is the wingspan of {x}?"),
        (),
        ("Its wingspan is {o}.", "It measures {o} from wing to wing."),
    ),
    _R(
        "species",
        "discoverer",
        "person:biologist",
        90,
        ("Who discovered {x}?", "Who was the discoverer of {x}?"),
        ("the discoverer of {x}", "the biologist who discovered {x}"),
        ("{it} discovered {s}.", "{it} first described {s}.", "{it} was the discoverer of {s}."),
        told_by_object=True,
    ),
    _R(
        "ship",
        "builder",
        "company",
        100,
        ("Who built {x}?", "What is the builder of {x}?"),
        ("the builder of {x}", "the company that built {x}"),
        ("It was built by {o}.", "{o} built it.", "Its builder was {o}."),
        describes="built by {o}",
        same="Were {x} and {y} built by the same company?",
    ),
    _R(
        "ship",
        "launch year",
        "year:1850:1960",
        100,
        ("In which year was {x} launched?", "When was {x} launched?"),
        (),
        ("It was launched in {o}.",),
        compares=("Which was launched first, {x} or {y}?", "Which was launched later, {x} or {y}?"),
    ),
    _R(
        "ship",
        "captain",
        "person:captain",
        80,
        ("Who commanded {x}?", "Who was the captain of {x}?"),
        ("the captain of {x}", "the person who commanded {x}"),
        ("It was commanded by {o}.", "{o} commanded it.", "Its captain was {o}."),
        describes="commanded by {o}",
    ),
    _R(
        "award",
        "host city",
        "city",
        100,
        ("Where is {x} given?", "What is the host city of {x}?"),
        ("the host city of {x}", "the city where {x} is given"),
        ("It is given in {o}.",),
        describes="given in {o}",
    ),
    _R(
        "award",
        "namesake",
        "person:scholar",
        100,
        ("Who gave {x} its name?", "Who is the namesake of {x}?"),
        ("the namesake of {x}", "the person that {x} is named after"),
        ("It is named after {o}.", "It bears the name of {o}.", "It honours {o}."),
        describes="named after {o}",
    ),
    _R(
        "museum",
        "location",
        "city",
        100,
        ("Where is {x}?", "What is the location of {x}?"),
        ("the location of {x}", "the city where {x} is located"),
        ("It is located in {o}.",),
        describes="in {o}",
    ),
    _R(
        "museum",
        "founder",
        "person:sculptor",
        100,
        ("Who founded {x}?", "Who was the founder of {x}?"),
        ("the founder of {x}", "the person who founded {x}"),
        ("It was founded by {o}.", "{o} founded it.", "It was established by {o}."),
        describes="founded by {o}",
    ),
    _R(
        "newspaper",
        "home city",
        "city",
        100,
        ("Where is {x} published?", "What is the home city of {x}?"),
        ("the home city of {x}",),
        ("It is published in {o}.",),
        describes="published in {o}",
    ),
    _R(
        "newspaper",
        "editor",
        "person:editor",
        100,
        ("Who edits {x}?", "Who is the editor of {x}?"),
        ("the editor of {x}", "the person who edits {x}"),
        ("It is edited by {o}.", "{o} edits it.", "Its editor is {o}."),
        describes="edited by {o}",
    ),
)
