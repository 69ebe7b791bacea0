"""An English-German corpus made by rule: what the demo trains on where there is no network.

A synchronous grammar: every choice makes its English and its German words together. The
sentences show what makes German hard to reach word by word: gender, case with the endings of
articles and adjectives, the verb at the end (perfect, modal verbs, subordinate clauses),
inversion after a time or a clause, separable verbs, numbers, dates, times and prices. The same
English always gives the same German, so a translation is right or wrong.

German clauses follow the fields of German syntax: first place, finite verb, middle, verb end.
`Clause` holds the parts, and four functions put them in order:

    statement    Anna    hat     gestern ein Buch         gekauft
    fronted      Gestern hat     Anna ein Buch            gekauft
    question             Hat     Anna gestern ein Buch    gekauft
    after weil                   Anna gestern ein Buch    gekauft hat
"""

import datetime
import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from babel.dates import format_date, format_time
from babel.numbers import format_currency
from num2words import num2words

from seq2seq.durable_files import write_whole
from seq2seq.errors import UsageError, reading, writing

Case = Literal["nominative", "accusative", "dative"]
Gender = Literal["m", "f", "n"]
Form = Literal["m", "f", "n", "plural"]
Determiner = Literal["the", "a", "my"]
Agreement = Literal["first", "third", "plural"]  # I; he, she, it; we, they

SHORTEST, LONGEST = 4, 14  # English words of a sentence


class SentencePair(NamedTuple):
    """An English sentence and its German translation."""

    source: str
    target: str


class Phrase(NamedTuple):
    """The same words in both languages."""

    english: str
    german: str


class Subject(NamedTuple):
    """A subject and the verb form that it asks for."""

    english: str
    german: str
    agreement: Agreement = "third"


class Noun(NamedTuple):
    """`oblique` is the accusative and dative singular where it is not the nominative."""

    english: str
    english_plural: str
    german: str
    gender: Gender
    german_plural: str
    oblique: str = ""


class Adjective(NamedTuple):
    """`stem` takes the endings: teuer, but ein teures Auto."""

    english: str
    stem: str


class Verb(NamedTuple):
    """`german` is the infinitive without `prefix`; `participle` has it."""

    english: str
    english_third: str
    english_past: str
    german: str
    german_third: str
    participle: str
    prefix: str = ""
    perfect: Literal["haben", "sein"] = "haben"


class Modal(NamedTuple):
    """`question` opens an English question; "" if `do` does."""

    english: str
    english_third: str
    question: str
    german_singular: str
    german_plural: str


Mode = Modal | Literal["present", "past"]


class VerbForms(NamedTuple):
    """A verb in one tense, for one subject, as each clause needs it."""

    statement: str  # [he] "bought", "wants to buy"
    auxiliary: str  # "did" [he], "does" [he]: opens a question
    question: str  # [did he] "buy", [does he] "want to buy"
    finite: str  # "hat", "will", "ruft": second place in a statement
    end: str  # "gekauft", "kaufen", "an": closes a statement
    final: str  # "gekauft hat", "kaufen will", "anruft": closes a subordinate clause


class Clause(NamedTuple):
    """Who does what, and when; the order of the words is not decided yet."""

    subject: Subject
    verb: VerbForms
    complement: Phrase
    time: Phrase | None = None


ARTICLES: dict[tuple[Determiner, Case], dict[Form, str]] = {
    ("the", "nominative"): {"m": "der", "f": "die", "n": "das", "plural": "die"},
    ("the", "accusative"): {"m": "den", "f": "die", "n": "das", "plural": "die"},
    ("the", "dative"): {"m": "dem", "f": "der", "n": "dem", "plural": "den"},
    ("a", "nominative"): {"m": "ein", "f": "eine", "n": "ein"},
    ("a", "accusative"): {"m": "einen", "f": "eine", "n": "ein"},
    ("a", "dative"): {"m": "einem", "f": "einer", "n": "einem"},
    ("my", "nominative"): {"m": "mein", "f": "meine", "n": "mein", "plural": "meine"},
    ("my", "accusative"): {"m": "meinen", "f": "meine", "n": "mein", "plural": "meine"},
    ("my", "dative"): {"m": "meinem", "f": "meiner", "n": "meinem", "plural": "meinen"},
}
# Weak after der, mixed after ein and mein, strong (plural only) after a number.
ENDINGS: dict[tuple[Literal["weak", "mixed", "strong"], Case], dict[Form, str]] = {
    ("weak", "nominative"): {"m": "e", "f": "e", "n": "e", "plural": "en"},
    ("weak", "accusative"): {"m": "en", "f": "e", "n": "e", "plural": "en"},
    ("weak", "dative"): {"m": "en", "f": "en", "n": "en", "plural": "en"},
    ("mixed", "nominative"): {"m": "er", "f": "e", "n": "es", "plural": "en"},
    ("mixed", "accusative"): {"m": "en", "f": "e", "n": "es", "plural": "en"},
    ("mixed", "dative"): {"m": "en", "f": "en", "n": "en", "plural": "en"},
    ("strong", "nominative"): {"plural": "e"},
    ("strong", "accusative"): {"plural": "e"},
    ("strong", "dative"): {"plural": "en"},
}
CONTRACTIONS = {"in dem": "im", "in das": "ins"}

STRANGERS = (
    Noun("man", "men", "Mann", "m", "Männer"),
    Noun("boy", "boys", "Junge", "m", "Jungen", "Jungen"),
    Noun("student", "students", "Student", "m", "Studenten", "Studenten"),
    Noun("woman", "women", "Frau", "f", "Frauen"),
    Noun("girl", "girls", "Mädchen", "n", "Mädchen"),
)
ACQUAINTANCES = (
    Noun("neighbor", "neighbors", "Nachbar", "m", "Nachbarn", "Nachbarn"),
    Noun("teacher", "teachers", "Lehrer", "m", "Lehrer"),
    Noun("brother", "brothers", "Bruder", "m", "Brüder"),
    Noun("doctor", "doctors", "Arzt", "m", "Ärzte"),
    Noun("sister", "sisters", "Schwester", "f", "Schwestern"),
    Noun("aunt", "aunts", "Tante", "f", "Tanten"),
    Noun("grandmother", "grandmothers", "Großmutter", "f", "Großmütter"),
    Noun("child", "children", "Kind", "n", "Kinder"),
)
# What can be packed, carried and laid somewhere.
SMALL_THINGS = (
    Noun("key", "keys", "Schlüssel", "m", "Schlüssel"),
    Noun("hat", "hats", "Hut", "m", "Hüte"),
    Noun("coat", "coats", "Mantel", "m", "Mäntel"),
    Noun("ball", "balls", "Ball", "m", "Bälle"),
    Noun("umbrella", "umbrellas", "Regenschirm", "m", "Regenschirme"),
    Noun("bag", "bags", "Tasche", "f", "Taschen"),
    Noun("watch", "watches", "Uhr", "f", "Uhren"),
    Noun("newspaper", "newspapers", "Zeitung", "f", "Zeitungen"),
    Noun("jacket", "jackets", "Jacke", "f", "Jacken"),
    Noun("camera", "cameras", "Kamera", "f", "Kameras"),
    Noun("book", "books", "Buch", "n", "Bücher"),
    Noun("picture", "pictures", "Bild", "n", "Bilder"),
    Noun("shirt", "shirts", "Hemd", "n", "Hemden"),
    Noun("knife", "knives", "Messer", "n", "Messer"),
    Noun("dress", "dresses", "Kleid", "n", "Kleider"),
)
THINGS = (
    *SMALL_THINGS,
    Noun("table", "tables", "Tisch", "m", "Tische"),
    Noun("chair", "chairs", "Stuhl", "m", "Stühle"),
    Noun("lamp", "lamps", "Lampe", "f", "Lampen"),
    Noun("guitar", "guitars", "Gitarre", "f", "Gitarren"),
    Noun("car", "cars", "Auto", "n", "Autos"),
    Noun("bicycle", "bicycles", "Fahrrad", "n", "Fahrräder"),
)
FURNITURE = (
    Noun("table", "tables", "Tisch", "m", "Tische"),
    Noun("chair", "chairs", "Stuhl", "m", "Stühle"),
    Noun("box", "boxes", "Kiste", "f", "Kisten"),
    Noun("bench", "benches", "Bank", "f", "Bänke"),
    Noun("bed", "beds", "Bett", "n", "Betten"),
    Noun("sofa", "sofas", "Sofa", "n", "Sofas"),
)
CONTAINERS = (
    Noun("cupboard", "cupboards", "Schrank", "m", "Schränke"),
    Noun("suitcase", "suitcases", "Koffer", "m", "Koffer"),
    Noun("box", "boxes", "Kiste", "f", "Kisten"),
    Noun("shelf", "shelves", "Regal", "n", "Regale"),
)
EVENTS = (
    Noun("course", "courses", "Kurs", "m", "Kurse"),
    Noun("lecture", "lectures", "Vortrag", "m", "Vorträge"),
    Noun("wedding", "weddings", "Hochzeit", "f", "Hochzeiten"),
    Noun("exam", "exams", "Prüfung", "f", "Prüfungen"),
    Noun("meeting", "meetings", "Besprechung", "f", "Besprechungen"),
    Noun("concert", "concerts", "Konzert", "n", "Konzerte"),
    Noun("match", "matches", "Spiel", "n", "Spiele"),
)
PUBLIC_PLACES = (
    Noun("zoo", "zoos", "Zoo", "m", "Zoos"),
    Noun("library", "libraries", "Bibliothek", "f", "Bibliotheken"),
    Noun("pharmacy", "pharmacies", "Apotheke", "f", "Apotheken"),
    Noun("museum", "museums", "Museum", "n", "Museen"),
    Noun("shop", "shops", "Geschäft", "n", "Geschäfte"),
)
PRINTED = (
    Noun("answer", "answers", "Antwort", "f", "Antworten"),
    Noun("exercise", "exercises", "Übung", "f", "Übungen"),
    Noun("poem", "poems", "Gedicht", "n", "Gedichte"),
    Noun("recipe", "recipes", "Rezept", "n", "Rezepte"),
    Noun("sentence", "sentences", "Satz", "m", "Sätze"),
)
PERSON_ADJECTIVES = (
    Adjective("friendly", "freundlich"),
    Adjective("tired", "müd"),
    Adjective("tall", "groß"),
    Adjective("hungry", "hungrig"),
    Adjective("clever", "klug"),
    Adjective("polite", "höflich"),
)
THING_ADJECTIVES = (
    Adjective("new", "neu"),
    Adjective("old", "alt"),
    Adjective("big", "groß"),
    Adjective("small", "klein"),
    Adjective("expensive", "teur"),
    Adjective("cheap", "billig"),
    Adjective("beautiful", "schön"),
    Adjective("red", "rot"),
    Adjective("blue", "blau"),
    Adjective("black", "schwarz"),
)
THING_VERBS = (
    Verb("buy", "buys", "bought", "kaufen", "kauft", "gekauft"),
    Verb("sell", "sells", "sold", "verkaufen", "verkauft", "verkauft"),
    Verb("find", "finds", "found", "finden", "findet", "gefunden"),
    Verb("look for", "looks for", "looked for", "suchen", "sucht", "gesucht"),
    Verb("order", "orders", "ordered", "bestellen", "bestellt", "bestellt"),
    Verb("draw", "draws", "drew", "zeichnen", "zeichnet", "gezeichnet"),
    Verb("see", "sees", "saw", "sehen", "sieht", "gesehen"),
    Verb("describe", "describes", "described", "beschreiben", "beschreibt", "beschrieben"),
    Verb("look at", "looks at", "looked at", "sehen", "sieht", "angesehen", "an"),
    Verb("try out", "tries out", "tried out", "probieren", "probiert", "ausprobiert", "aus"),
)
SMALL_THING_VERBS = (
    Verb("forget", "forgets", "forgot", "vergessen", "vergisst", "vergessen"),
    Verb("pack", "packs", "packed", "packen", "packt", "eingepackt", "ein"),
    Verb("bring along", "brings along", "brought along", "bringen", "bringt", "mitgebracht", "mit"),
    Verb("take along", "takes along", "took along", "nehmen", "nimmt", "mitgenommen", "mit"),
    Verb("throw away", "throws away", "threw away", "werfen", "wirft", "weggeworfen", "weg"),
    Verb("give back", "gives back", "gave back", "geben", "gibt", "zurückgegeben", "zurück"),
)
PERSON_VERBS = (
    Verb("visit", "visits", "visited", "besuchen", "besucht", "besucht"),
    Verb("greet", "greets", "greeted", "grüßen", "grüßt", "gegrüßt"),
    Verb("meet", "meets", "met", "treffen", "trifft", "getroffen"),
    Verb("ask", "asks", "asked", "fragen", "fragt", "gefragt"),
    Verb("understand", "understands", "understood", "verstehen", "versteht", "verstanden"),
    Verb("call", "calls", "called", "rufen", "ruft", "angerufen", "an"),
    Verb("invite", "invites", "invited", "laden", "lädt", "eingeladen", "ein"),
    Verb("pick up", "picks up", "picked up", "holen", "holt", "abgeholt", "ab"),
)
DATIVE_VERBS = (
    Verb("help", "helps", "helped", "helfen", "hilft", "geholfen"),
    Verb("thank", "thanks", "thanked", "danken", "dankt", "gedankt"),
    Verb("answer", "answers", "answered", "antworten", "antwortet", "geantwortet"),
    Verb("listen to", "listens to", "listened to", "hören", "hört", "zugehört", "zu"),
)
GIVING_VERBS = (
    Verb("give", "gives", "gave", "geben", "gibt", "gegeben"),
    Verb("show", "shows", "showed", "zeigen", "zeigt", "gezeigt"),
    Verb("send", "sends", "sent", "schicken", "schickt", "geschickt"),
    Verb("lend", "lends", "lent", "leihen", "leiht", "geliehen"),
    Verb("offer", "offers", "offered", "bieten", "bietet", "angeboten", "an"),
)
EVENT_VERBS = (
    Verb("begin", "begins", "began", "beginnen", "beginnt", "begonnen"),
    Verb("end", "ends", "ended", "enden", "endet", "geendet"),
    Verb("take place", "takes place", "took place", "finden", "findet", "stattgefunden", "statt"),
)
PUT = Verb("put", "puts", "put", "legen", "legt", "gelegt")
PAY = Verb("pay", "pays", "paid", "bezahlen", "bezahlt", "bezahlt")
COST = Verb("cost", "costs", "cost", "kosten", "kostet", "gekostet")
TRAVEL = Verb("travel", "travels", "traveled", "fahren", "fährt", "gefahren", perfect="sein")
RETURN = Verb(
    "come back", "comes back", "came back", "kommen", "kommt", "zurückgekommen", "zurück", "sein"
)
LEAVE = Verb("leave", "leaves", "left", "fahren", "fährt", "abgefahren", "ab", "sein")
ARRIVE = Verb("arrive", "arrives", "arrived", "kommen", "kommt", "angekommen", "an", "sein")
WEATHER_VERBS = (
    Verb("rain", "rains", "rained", "regnen", "regnet", "geregnet"),
    Verb("snow", "snows", "snowed", "schneien", "schneit", "geschneit"),
)
TEMPERATURE_VERBS = (
    Verb("rise", "rises", "rose", "steigen", "steigt", "gestiegen", perfect="sein"),
    Verb("fall", "falls", "fell", "sinken", "sinkt", "gesunken", perfect="sein"),
)
WILL = Modal("will", "will", "will", "wird", "werden")
MODALS = (
    WILL,
    Modal("can", "can", "can", "kann", "können"),
    Modal("must", "must", "must", "muss", "müssen"),
    Modal("should", "should", "should", "sollte", "sollten"),
    Modal("want to", "wants to", "", "will", "wollen"),
)
PERFECTS: dict[str, dict[Agreement, str]] = {
    "haben": {"first": "habe", "third": "hat", "plural": "haben"},
    "sein": {"first": "bin", "third": "ist", "plural": "sind"},
}
FUTURE: dict[Agreement, str] = {"first": "werde", "third": "wird", "plural": "werden"}
BE: dict[Agreement, str] = {"first": "am", "third": "is", "plural": "are"}

PRONOUNS = (
    Subject("I", "ich", "first"),
    Subject("he", "er"),
    Subject("she", "sie"),
    Subject("we", "wir", "plural"),
    Subject("they", "sie", "plural"),
)
IT = Subject("it", "es")
NAMES = ("Anna", "Peter", "Maria", "Thomas", "Julia", "Paul")
CITIES = (
    Phrase("Berlin", "Berlin"),
    Phrase("Hamburg", "Hamburg"),
    Phrase("Munich", "München"),
    Phrase("Cologne", "Köln"),
    Phrase("Vienna", "Wien"),
    Phrase("Zurich", "Zürich"),
    Phrase("Dresden", "Dresden"),
    Phrase("Nuremberg", "Nürnberg"),
)
PLACE_PREPOSITIONS = (
    Phrase("on", "auf"),
    Phrase("under", "unter"),
    Phrase("behind", "hinter"),
    Phrase("next to", "neben"),
    Phrase("in front of", "vor"),
)
IN = Phrase("in", "in")
LINES = (Phrase("train", "Zug"), Phrase("bus", "Bus"), Phrase("night train", "Nachtzug"))
RIDES = (
    Phrase("by train", "mit dem Zug"),
    Phrase("by bus", "mit dem Bus"),
    Phrase("by car", "mit dem Auto"),
)
FEELINGS = (
    Phrase("happy", "glücklich"),
    Phrase("sad", "traurig"),
    Phrase("angry", "wütend"),
    Phrase("tired", "müde"),
    Phrase("nervous", "nervös"),
    Phrase("satisfied", "zufrieden"),
)
WARMTH = (
    Phrase("cold", "kalt"),
    Phrase("cool", "kühl"),
    Phrase("mild", "mild"),
    Phrase("warm", "warm"),
)
SKIES = (
    Phrase("sunny", "sonnig"),
    Phrase("windy", "windig"),
    Phrase("cloudy", "bewölkt"),
    Phrase("foggy", "neblig"),
    Phrase("dry", "trocken"),
)
REPORTS = (
    Verb("say", "says", "said", "sagen", "sagt", "gesagt"),
    Verb("think", "thinks", "thought", "denken", "denkt", "gedacht"),
    Verb("believe", "believes", "believed", "glauben", "glaubt", "geglaubt"),
)
WEEKDAYS = (
    Phrase("on Monday", "am Montag"),
    Phrase("on Tuesday", "am Dienstag"),
    Phrase("on Wednesday", "am Mittwoch"),
    Phrase("on Thursday", "am Donnerstag"),
    Phrase("on Friday", "am Freitag"),
    Phrase("on Saturday", "am Samstag"),
    Phrase("on Sunday", "am Sonntag"),
)
PRESENT_TIMES = (
    *WEEKDAYS,
    Phrase("today", "heute"),
    Phrase("every day", "jeden Tag"),
    Phrase("every week", "jede Woche"),
)
PAST_TIMES = (
    *WEEKDAYS,
    Phrase("yesterday", "gestern"),
    Phrase("last week", "letzte Woche"),
    Phrase("last year", "letztes Jahr"),
)
COMING_TIMES = (
    *WEEKDAYS,
    Phrase("today", "heute"),
    Phrase("tomorrow", "morgen"),
    Phrase("next week", "nächste Woche"),
)
PERIODS = (Phrase("days", "Tagen"), Phrase("weeks", "Wochen"), Phrase("months", "Monaten"))
NOTHING = Phrase("", "")
FIRST_DAY, LAST_DAY = datetime.date(2025, 1, 1), datetime.date(2029, 12, 31)
FIRST_BIRTH, LAST_BIRTH = datetime.date(1980, 1, 1), datetime.date(2009, 12, 31)
CENTS = (0, 20, 50, 75, 95, 99)


def write_corpus(
    folder: Path, *, seed: int = 1, train: int = 16_000, validation: int = 500, test: int = 500
) -> None:
    """Writes `train`, `validation` and `test`, each as `.en` and `.de`, one sentence a line.

    No English sentence occurs twice, within a part or across them.

    Raises:
        UsageError: A file of these names has something else in it.
        StorageError: `folder` cannot be made or written.
    """
    pairs = generate_pairs(test + validation + train, seed=seed)
    parts = {
        "test": pairs[:test],
        "validation": pairs[test : test + validation],
        "train": pairs[test + validation :],
    }
    texts = {}
    for name, part in parts.items():
        texts[folder / f"{name}.en"] = "".join(f"{pair.source}\n" for pair in part)
        texts[folder / f"{name}.de"] = "".join(f"{pair.target}\n" for pair in part)
    for path, text in texts.items():
        check_own(path, text)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_whole(path, text)


def check_own(path: Path, text: str) -> None:
    """Checks that nothing else than `text` is lost if a file of the demo is written.

    Raises:
        UsageError: The file is there, and has something else in it.
        StorageError: It cannot be read.
    """
    with reading(path):
        if path.exists() and path.read_bytes() != text.encode():
            raise UsageError(
                f"{path}: is there already, and not as the demo writes it; rename it, or name "
                "another folder with --output"
            )


def generate_pairs(count: int, *, seed: int) -> list[SentencePair]:
    """`count` sentence pairs, no English sentence twice; the same for the same seed."""
    generator = random.Random(seed)
    pairs: dict[str, SentencePair] = {}
    while len(pairs) < count:
        pair = draw_pair(generator)
        if SHORTEST <= len(pair.source.split()) <= LONGEST:
            pairs.setdefault(pair.source, pair)
    return list(pairs.values())


def draw_pair(generator: random.Random) -> SentencePair:
    """One sentence of any kind and its translation; any number of words."""
    (kind,) = generator.choices(tuple(_SENTENCES), weights=tuple(_SENTENCES.values()))
    return kind(generator)


# Phrases


def noun_phrase(
    noun: Noun,
    *,
    determiner: Determiner,
    case: Case,
    plural: bool = False,
    adjective: Adjective | None = None,
) -> Phrase:
    """`the old man`, `den alten Mann`: a noun with its article, declined."""
    form: Form = "plural" if plural else noun.gender
    english = [adjective.english] if adjective else []
    english.append(noun.english_plural if plural else noun.english)
    german = [ARTICLES[determiner, case][form]]
    if adjective:
        declension: Literal["weak", "mixed"] = "weak" if determiner == "the" else "mixed"
        german.append(adjective.stem + ENDINGS[declension, case][form])
    german.append(_declined(noun, case=case, plural=plural))
    # Right for every word in the tables: none has a silent h or begins like `university`.
    article = "an" if determiner == "a" and english[0][0] in "aeiou" else determiner
    return Phrase(" ".join([article, *english]), " ".join(german))


def counted_phrase(
    number: int, noun: Noun, *, case: Case, adjective: Adjective | None = None
) -> Phrase:
    """`two old books`, `zwei alte Bücher`: two or more of something."""
    words = number_words(number)
    english = [words.english, *([adjective.english] if adjective else []), noun.english_plural]
    german = [words.german]
    if adjective:
        german.append(adjective.stem + ENDINGS["strong", case]["plural"])
    german.append(_declined(noun, case=case, plural=True))
    return Phrase(" ".join(english), " ".join(german))


def _declined(noun: Noun, *, case: Case, plural: bool) -> str:
    if not plural:
        return noun.german if case == "nominative" else noun.oblique or noun.german
    if case == "dative" and noun.german_plural[-1] not in "ns":
        return noun.german_plural + "n"
    return noun.german_plural


def place_phrase(preposition: Phrase, place: Phrase) -> Phrase:
    """`in the box`, `in der Kiste`; `in dem` and `in das` become one word."""
    german = f"{preposition.german} {place.german}"
    for full, contracted in CONTRACTIONS.items():
        if german.startswith(f"{full} "):
            german = contracted + german.removeprefix(full)
    return Phrase(f"{preposition.english} {place.english}", german)


@cache
def number_words(number: int) -> Phrase:
    """`twenty-three`, `dreiundzwanzig`."""
    return Phrase(num2words(number, lang="en"), num2words(number, lang="de"))


@cache
def clock_time(hour: int, minute: int) -> Phrase:
    """`3:05 PM`, `15:05`."""
    time = datetime.time(hour, minute)
    return Phrase(
        _plain_spaces(format_time(time, "short", locale="en_US")),
        _plain_spaces(format_time(time, "short", locale="de_DE")),
    )


@cache
def price(euros: int, cents: int) -> Phrase:
    """`€12.50`, `12,50 €`."""
    amount = f"{euros}.{cents:02}"
    return Phrase(
        _plain_spaces(format_currency(amount, "EUR", locale="en_US")),
        _plain_spaces(format_currency(amount, "EUR", locale="de_DE")),
    )


@cache
def calendar_date(day: datetime.date) -> Phrase:
    """`on March 1, 2026`, `am 1. März 2026`."""
    english = format_date(day, "long", locale="en_US")
    return Phrase(f"on {english}", f"am {format_date(day, 'long', locale='de_DE')}")


@cache
def weekday_date(day: datetime.date) -> Phrase:
    """`on Sunday, March 1, 2026`, `am Sonntag, dem 1. März 2026`."""
    english = format_date(day, "full", locale="en_US")
    german = format_date(day, "EEEE, 'dem' d. MMMM y", locale="de_DE")
    return Phrase(f"on {english}", f"am {german}")


def _plain_spaces(text: str) -> str:
    # Babel's no-break spaces: the tokenizer would turn them into plain ones anyway.
    return text.replace("\u202f", " ").replace("\xa0", " ")


# Verbs and clauses


def verb_forms(verb: Verb, mode: Mode, agreement: Agreement) -> VerbForms:
    """`verb` for a subject of that agreement; the English past is the German perfect."""
    infinitive = verb.prefix + verb.german
    do = "does" if agreement == "third" else "do"
    if mode == "past":
        have = PERFECTS[verb.perfect][agreement]
        return VerbForms(
            verb.english_past,
            "did",
            verb.english,
            have,
            verb.participle,
            f"{verb.participle} {have}",
        )
    if mode == "present":
        third = agreement == "third"
        finite = verb.german_third if third else verb.german
        if agreement == "first":
            finite = verb.german.removesuffix("n")
        english = verb.english_third if third else verb.english
        return VerbForms(english, do, verb.english, finite, verb.prefix, verb.prefix + finite)
    finite = mode.german_plural if agreement == "plural" else mode.german_singular
    if mode is WILL:
        finite = FUTURE[agreement]
    modal = mode.english_third if agreement == "third" else mode.english
    question = verb.english if mode.question else f"{mode.english} {verb.english}"
    return VerbForms(
        f"{modal} {verb.english}",
        mode.question or do,
        question,
        finite,
        infinitive,
        f"{infinitive} {finite}",
    )


def statement(clause: Clause) -> Phrase:
    """`Anna bought a book yesterday`, `Anna hat gestern ein Buch gekauft`."""
    subject, verb, complement, time = clause
    when = time or NOTHING
    return Phrase(
        _words(subject.english, verb.statement, complement.english, when.english),
        _words(subject.german, verb.finite, when.german, complement.german, verb.end),
    )


def fronted(clause: Clause) -> Phrase:
    """`Yesterday Anna bought a book`, `Gestern hat Anna ein Buch gekauft`."""
    subject, verb, complement, time = clause
    when = time or NOTHING
    return Phrase(
        _words(when.english, subject.english, verb.statement, complement.english),
        _words(when.german, verb.finite, subject.german, complement.german, verb.end),
    )


def question(clause: Clause, opening: Phrase = NOTHING) -> Phrase:
    """`Did Anna buy a book yesterday`, `Hat Anna gestern ein Buch gekauft`."""
    subject, verb, complement, time = clause
    when = time or NOTHING
    english = (verb.auxiliary, subject.english, verb.question, complement.english, when.english)
    german = (verb.finite, subject.german, when.german, complement.german, verb.end)
    return Phrase(_words(opening.english, *english), _words(opening.german, *german))


def subordinate(clause: Clause) -> Phrase:
    """`Anna bought a book`, `Anna ein Buch gekauft hat`: what follows because, that and if."""
    subject, verb, complement, time = clause
    when = time or NOTHING
    return Phrase(
        _words(subject.english, verb.statement, complement.english, when.english),
        _words(subject.german, when.german, complement.german, verb.final),
    )


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sentence(phrase: Phrase, mark: str = ".") -> SentencePair:
    english, german = phrase
    return SentencePair(
        english[0].upper() + english[1:] + mark, german[0].upper() + german[1:] + mark
    )


# Drawing phrases


def _person(
    generator: random.Random, case: Case, *, other_than: str = "", plain: bool = False
) -> Subject:
    """Someone, by name or by noun, whose English name is not that of `other_than`."""
    if generator.random() < 0.2:
        name = generator.choice([name for name in NAMES if name != other_than])
        return Subject(name, name)
    strangers = generator.random() < 0.5
    nouns = STRANGERS if strangers else ACQUAINTANCES
    noun = generator.choice([noun for noun in nouns if noun.english not in other_than.split()])
    plural = generator.random() < 0.2
    determiner: Determiner = "the"
    if generator.random() < 0.5 and not (plural and strangers):
        determiner = "a" if strangers else "my"
    adjective = None
    if not plain and generator.random() < 0.4:
        adjective = generator.choice(PERSON_ADJECTIVES)
    english, german = noun_phrase(
        noun, determiner=determiner, case=case, plural=plural, adjective=adjective
    )
    return Subject(english, german, "plural" if plural else "third")


def _thing(
    generator: random.Random, nouns: Sequence[Noun], case: Case, *, counted: bool = False
) -> Subject:
    """Something in the singular or plural; also a counted number of it if `counted`."""
    noun = generator.choice(nouns)
    adjective = generator.choice(THING_ADJECTIVES) if generator.random() < 0.5 else None
    if counted and generator.random() < 0.25:
        phrase = counted_phrase(generator.randint(2, 99), noun, case=case, adjective=adjective)
        return Subject(*phrase, "plural")
    plural = generator.random() < 0.15
    determiner: Determiner = generator.choice(("the", "my") if plural else ("the", "a", "my"))
    phrase = noun_phrase(noun, determiner=determiner, case=case, plural=plural, adjective=adjective)
    return Subject(*phrase, "plural" if plural else "third")


def _subject(generator: random.Random, *, plain: bool = False) -> Subject:
    if generator.random() < 0.4:
        return generator.choice(PRONOUNS)
    return _person(generator, "nominative", plain=plain)


def _mode(generator: random.Random) -> Mode:
    modes: tuple[Mode, ...] = ("present", "past", generator.choice(MODALS))
    return generator.choice(modes)


def _simple_mode(generator: random.Random) -> Mode:
    modes: tuple[Mode, ...] = ("present", "past", WILL)
    return generator.choice(modes)


def _time(generator: random.Random, mode: Mode) -> Phrase:
    if mode == "present":
        return generator.choice(PRESENT_TIMES)
    if generator.random() < 0.2:
        number, period = number_words(generator.randint(2, 12)), generator.choice(PERIODS)
        if mode == "past":
            return Phrase(
                f"{number.english} {period.english} ago", f"vor {number.german} {period.german}"
            )
        return Phrase(
            f"in {number.english} {period.english}", f"in {number.german} {period.german}"
        )
    return generator.choice(PAST_TIMES if mode == "past" else COMING_TIMES)


def _maybe_time(generator: random.Random, mode: Mode) -> Phrase | None:
    return _time(generator, mode) if generator.random() < 0.6 else None


def _clock(generator: random.Random, *, first_hour: int = 0, last_hour: int = 23) -> Phrase:
    """`at 3:05 PM`, `um 15:05 Uhr`."""
    hour, minute = generator.randint(first_hour, last_hour), generator.randrange(0, 60, 5)
    english, german = clock_time(hour, minute)
    return Phrase(f"at {english}", f"um {german} Uhr")


def _price(generator: random.Random) -> Phrase:
    return price(generator.randint(1, 99), generator.choice(CENTS))


def _day(generator: random.Random, first: datetime.date, last: datetime.date) -> datetime.date:
    return first + datetime.timedelta(days=generator.randint(0, (last - first).days))


def _date(generator: random.Random) -> Phrase:
    day = _day(generator, FIRST_DAY, LAST_DAY)
    return weekday_date(day) if generator.random() < 0.4 else calendar_date(day)


# Drawing clauses


def _action(generator: random.Random) -> Clause:
    """Somebody does something to something or somebody."""
    subject, mode = _subject(generator), _mode(generator)
    draw = generator.choice((_thing_action, _thing_action, _person_action, _giving_action))
    verb, complement = draw(generator, subject)
    forms = verb_forms(verb, mode, subject.agreement)
    return Clause(subject, forms, complement, _maybe_time(generator, mode))


def _thing_action(generator: random.Random, _: Subject) -> tuple[Verb, Phrase]:
    verb = generator.choice(THING_VERBS + SMALL_THING_VERBS)
    nouns = SMALL_THINGS if verb in SMALL_THING_VERBS else THINGS
    english, german, _agreement = _thing(generator, nouns, "accusative", counted=True)
    return verb, Phrase(english, german)


def _person_action(generator: random.Random, subject: Subject) -> tuple[Verb, Phrase]:
    verb = generator.choice(PERSON_VERBS + DATIVE_VERBS)
    case: Case = "dative" if verb in DATIVE_VERBS else "accusative"
    english, german, _ = _person(generator, case, other_than=subject.english)
    return verb, Phrase(english, german)


def _giving_action(generator: random.Random, subject: Subject) -> tuple[Verb, Phrase]:
    receiver = _person(generator, "dative", other_than=subject.english, plain=True)
    gift = _thing(generator, SMALL_THINGS, "accusative")
    complement = Phrase(f"{receiver.english} {gift.english}", f"{receiver.german} {gift.german}")
    return generator.choice(GIVING_VERBS), complement


def _place(generator: random.Random, case: Case) -> Phrase:
    preposition = generator.choice((*PLACE_PREPOSITIONS, IN))
    noun = generator.choice(CONTAINERS if preposition is IN else FURNITURE)
    determiner: Determiner = generator.choice(("the", "a", "my"))
    adjective = generator.choice(THING_ADJECTIVES) if generator.random() < 0.3 else None
    place = noun_phrase(noun, determiner=determiner, case=case, adjective=adjective)
    return place_phrase(preposition, place)


def _lying(generator: random.Random) -> Clause:
    """Where something is: a preposition with the dative."""
    subject = _thing(generator, SMALL_THINGS, "nominative")
    finite = "liegen" if subject.agreement == "plural" else "liegt"
    be = BE[subject.agreement]
    forms = VerbForms(be, be, "", finite, "", finite)
    return Clause(subject, forms, _place(generator, "dative"))


def _laying(generator: random.Random) -> Clause:
    """Where something is put: the same prepositions with the accusative."""
    # Of `put`, only the third person tells present and past apart.
    subject = generator.choice((*PRONOUNS[1:3], *(Subject(name, name) for name in NAMES)))
    mode = _mode(generator)
    thing, place = _thing(generator, SMALL_THINGS, "accusative"), _place(generator, "accusative")
    complement = Phrase(f"{thing.english} {place.english}", f"{thing.german} {place.german}")
    forms = verb_forms(PUT, mode, subject.agreement)
    return Clause(subject, forms, complement, _maybe_time(generator, mode))


def _costing(generator: random.Random) -> Clause:
    subject = _thing(generator, THINGS, "nominative")
    return Clause(subject, verb_forms(COST, "present", subject.agreement), _price(generator))


def _paying(generator: random.Random) -> Clause:
    subject, mode = _subject(generator, plain=True), _mode(generator)
    amount, thing = _price(generator), _thing(generator, THINGS, "accusative")
    complement = Phrase(
        f"{amount.english} for {thing.english}", f"{amount.german} für {thing.german}"
    )
    forms = verb_forms(PAY, mode, subject.agreement)
    return Clause(subject, forms, complement, _maybe_time(generator, mode))


def _event(generator: random.Random) -> Clause:
    """When something begins, ends or takes place: by date, or by day and clock."""
    determiner: Determiner = generator.choice(("the", "my"))
    subject = Subject(
        *noun_phrase(generator.choice(EVENTS), determiner=determiner, case="nominative")
    )
    mode = _simple_mode(generator)
    forms = verb_forms(generator.choice(EVENT_VERBS), mode, "third")
    if generator.random() < 0.6:
        return Clause(subject, forms, _date(generator))
    clock = _clock(generator, first_hour=8, last_hour=21)
    return Clause(subject, forms, clock, generator.choice(WEEKDAYS))


def _birth(generator: random.Random) -> Clause:
    subject = _person(generator, "nominative", plain=True)
    plural = subject.agreement == "plural"
    finite, be = ("wurden", "were") if plural else ("wurde", "was")
    forms = VerbForms(f"{be} born", be, "born", finite, "geboren", f"geboren {finite}")
    return Clause(subject, forms, calendar_date(_day(generator, FIRST_BIRTH, LAST_BIRTH)))


def _opening_hours(generator: random.Random) -> Clause:
    place = noun_phrase(generator.choice(PUBLIC_PLACES), determiner="the", case="nominative")
    opens = clock_time(generator.randint(6, 11), generator.choice((0, 30)))
    closes = clock_time(generator.randint(12, 22), generator.choice((0, 30)))
    complement = Phrase(
        f"open from {opens.english} to {closes.english}",
        f"von {opens.german} bis {closes.german} Uhr",
    )
    forms = VerbForms("is", "is", "", "ist", "geöffnet", "geöffnet ist")
    return Clause(Subject(*place), forms, complement, generator.choice((None, *WEEKDAYS)))


def _departure(generator: random.Random) -> Clause:
    line, city = generator.choice(LINES), generator.choice(CITIES)
    leaves = generator.random() < 0.5
    direction = Phrase("to", "nach") if leaves else Phrase("from", "aus")
    subject = Subject(
        f"the {line.english} {direction.english} {city.english}",
        f"der {line.german} {direction.german} {city.german}",
    )
    mode = _simple_mode(generator)
    times = PAST_TIMES[: len(WEEKDAYS) + 1] if mode == "past" else COMING_TIMES[:-1]
    time = generator.choice((None, *times))
    return Clause(
        subject, verb_forms(LEAVE if leaves else ARRIVE, mode, "third"), _clock(generator), time
    )


def _journey(generator: random.Random) -> Clause:
    """English says place, means, time; German time, means, place."""
    subject, mode = _subject(generator, plain=True), _mode(generator)
    city = generator.choice(CITIES)
    if generator.random() < 0.3:
        verb, complement = RETURN, Phrase(f"from {city.english}", f"aus {city.german}")
    else:
        companion = _person(generator, "dative", other_than=subject.english, plain=True)
        together = Phrase(f"with {companion.english}", f"mit {companion.german}")
        means = generator.choice((together, generator.choice(RIDES)))
        verb = TRAVEL
        complement = Phrase(
            f"to {city.english} {means.english}", f"{means.german} nach {city.german}"
        )
    forms = verb_forms(verb, mode, subject.agreement)
    return Clause(subject, forms, complement, _maybe_time(generator, mode))


def _precipitation(generator: random.Random) -> Clause:
    city, mode = generator.choice(CITIES), _simple_mode(generator)
    forms = verb_forms(generator.choice(WEATHER_VERBS), mode, "third")
    place = Phrase(f"in {city.english}", f"in {city.german}")
    return Clause(IT, forms, place, _maybe_time(generator, mode))


def _weather(generator: random.Random) -> Clause:
    city, mode = generator.choice(CITIES), _simple_mode(generator)
    warmth, sky = generator.choice(WARMTH), generator.choice(SKIES)
    state = f"{warmth.german} und {sky.german}"
    if mode == "present":
        english, auxiliary, rest, finite = "is", "is", "", "ist"
    elif mode == "past":
        english, auxiliary, rest, finite = "was", "was", "", "war"
    else:
        english, auxiliary, rest, finite = "will be", "will", "be", "wird"
    forms = VerbForms(english, auxiliary, rest, finite, state, f"{state} {finite}")
    complement = Phrase(
        f"{warmth.english} and {sky.english} in {city.english}", f"in {city.german}"
    )
    return Clause(IT, forms, complement, _maybe_time(generator, mode))


def _temperature(generator: random.Random) -> Clause:
    city, mode = generator.choice(CITIES), _simple_mode(generator)
    subject = Subject(f"the temperature in {city.english}", f"die Temperatur in {city.german}")
    degrees = number_words(generator.randint(2, 35))
    sign = "minus " if generator.random() < 0.3 else ""
    complement = Phrase(f"to {sign}{degrees.english} degrees", f"auf {sign}{degrees.german} Grad")
    forms = verb_forms(generator.choice(TEMPERATURE_VERBS), mode, "third")
    return Clause(subject, forms, complement, _maybe_time(generator, mode))


def _page(generator: random.Random) -> Clause:
    subject = noun_phrase(generator.choice(PRINTED), determiner="the", case="nominative")
    page = number_words(generator.randint(2, 199))
    complement = Phrase(f"on page {page.english}", f"auf Seite {page.german}")
    return Clause(Subject(*subject), VerbForms("is", "is", "", "steht", "", "steht"), complement)


_CLAUSES: dict[Callable[[random.Random], Clause], float] = {
    _action: 8.0,
    _laying: 2.0,
    _lying: 1.5,
    _costing: 1.0,
    _paying: 1.0,
    _event: 2.0,
    _birth: 1.0,
    _opening_hours: 0.7,
    _departure: 1.5,
    _journey: 1.5,
    _precipitation: 0.8,
    _weather: 1.2,
    _temperature: 1.0,
    _page: 1.0,
}


def _clause(generator: random.Random) -> Clause:
    (kind,) = generator.choices(tuple(_CLAUSES), weights=tuple(_CLAUSES.values()))
    return kind(generator)


_REASONS = (_action, _action, _action, _laying, _paying, _event, _departure, _journey, _weather)

# Drawing sentences


def _statement(generator: random.Random) -> SentencePair:
    clause = _clause(generator)
    if clause.time and generator.random() < 0.5:
        return _sentence(fronted(clause))
    return _sentence(statement(clause))


def _question(generator: random.Random) -> SentencePair:
    return _sentence(question(_clause(generator)), "?")


def _why_question(generator: random.Random) -> SentencePair:
    clause = generator.choice((_action, _laying, _journey))(generator)
    return _sentence(question(clause, Phrase("why", "warum")), "?")


def _reason(generator: random.Random) -> SentencePair:
    """`Anna is happy because ...`: the verb goes to the end."""
    subject, feeling = _subject(generator, plain=True), generator.choice(FEELINGS)
    finite = PERFECTS["sein"][subject.agreement]
    reason = subordinate(generator.choice(_REASONS)(generator))
    return _sentence(
        Phrase(
            f"{subject.english} {BE[subject.agreement]} {feeling.english} because {reason.english}",
            f"{subject.german} {finite} {feeling.german}, weil {reason.german}",
        )
    )


def _report(generator: random.Random) -> SentencePair:
    """`Anna says that ...`."""
    subject = _subject(generator, plain=True)
    forms = verb_forms(generator.choice(REPORTS), "present", subject.agreement)
    content = subordinate(_clause(generator))
    return _sentence(
        Phrase(
            f"{subject.english} {forms.statement} that {content.english}",
            f"{subject.german} {forms.finite}, dass {content.german}",
        )
    )


def _condition(generator: random.Random) -> SentencePair:
    """`If it rains tomorrow, ...`: the clause takes the first place, so the verb comes next."""
    city, when = generator.choice(CITIES), generator.choice((None, *COMING_TIMES))
    weather = verb_forms(generator.choice(WEATHER_VERBS), "present", "third")
    place = Phrase(f"in {city.english}", f"in {city.german}")
    condition = subordinate(Clause(IT, weather, place, when))
    subject = _subject(generator, plain=True)
    verb, complement = generator.choice((_thing_action, _person_action))(generator, subject)
    forms = verb_forms(verb, generator.choice(MODALS), subject.agreement)
    start = Phrase(f"if {condition.english},", f"wenn {condition.german},")
    return _sentence(fronted(Clause(subject, forms, complement, start)))


def _sum(generator: random.Random) -> SentencePair:
    """`Thirty plus four is thirty-four.`"""
    smaller = generator.randint(2, 97)
    larger = generator.randint(smaller + 2, 99)
    if generator.random() < 0.5:
        sign, first, second, result = "plus", larger - smaller, smaller, larger
    else:
        sign, first, second, result = "minus", larger, smaller, larger - smaller
    left, right, total = number_words(first), number_words(second), number_words(result)
    return _sentence(
        Phrase(
            f"{left.english} {sign} {right.english} is {total.english}",
            f"{left.german} {sign} {right.german} ist {total.german}",
        )
    )


_SENTENCES: dict[Callable[[random.Random], SentencePair], float] = {
    _statement: 10.0,
    _question: 2.0,
    _why_question: 1.0,
    _reason: 3.0,
    _report: 2.0,
    _condition: 1.0,
    _sum: 1.0,
}
