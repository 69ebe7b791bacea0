import datetime
import random
import re

import pytest

from seq2seq import demo_corpus
from seq2seq.demo_corpus import (
    IN,
    MODALS,
    WILL,
    Adjective,
    Clause,
    Noun,
    Phrase,
    SentencePair,
    Subject,
    Verb,
    calendar_date,
    clock_time,
    counted_phrase,
    draw_pair,
    fronted,
    generate_pairs,
    noun_phrase,
    number_words,
    place_phrase,
    price,
    question,
    statement,
    subordinate,
    verb_forms,
    weekday_date,
    write_corpus,
)
from seq2seq.errors import StorageError

MAN = Noun("man", "men", "Mann", "m", "Männer")
BOY = Noun("boy", "boys", "Junge", "m", "Jungen", "Jungen")
LAMP = Noun("lamp", "lamps", "Lampe", "f", "Lampen")
BOOK = Noun("book", "books", "Buch", "n", "Bücher")
CAR = Noun("car", "cars", "Auto", "n", "Autos")
BOX = Noun("box", "boxes", "Kiste", "f", "Kisten")
OLD = Adjective("old", "alt")
BUY = Verb("buy", "buys", "bought", "kaufen", "kauft", "gekauft")
CALL = Verb("call", "calls", "called", "rufen", "ruft", "angerufen", "an")
ARRIVE = Verb("arrive", "arrives", "arrived", "kommen", "kommt", "angekommen", "an", "sein")
WANT = next(modal for modal in MODALS if modal.english == "want to")
MUST = next(modal for modal in MODALS if modal.english == "must")
ANNA = Subject("Anna", "Anna")
I = Subject("I", "ich", "first")  # noqa: E741
WE = Subject("we", "wir", "plural")
THE_BOOK = Phrase("the book", "das Buch")
YESTERDAY = Phrase("yesterday", "gestern")


# Every gender and case by hand, from a grammar's tables: der Mann, die Lampe, das Buch.
@pytest.mark.parametrize(
    ("noun", "determiner", "nominative", "accusative", "dative"),
    [
        (MAN, "the", "der alte Mann", "den alten Mann", "dem alten Mann"),
        (LAMP, "the", "die alte Lampe", "die alte Lampe", "der alten Lampe"),
        (BOOK, "the", "das alte Buch", "das alte Buch", "dem alten Buch"),
        (MAN, "a", "ein alter Mann", "einen alten Mann", "einem alten Mann"),
        (LAMP, "a", "eine alte Lampe", "eine alte Lampe", "einer alten Lampe"),
        (BOOK, "a", "ein altes Buch", "ein altes Buch", "einem alten Buch"),
        (MAN, "my", "mein alter Mann", "meinen alten Mann", "meinem alten Mann"),
        (LAMP, "my", "meine alte Lampe", "meine alte Lampe", "meiner alten Lampe"),
        (BOOK, "my", "mein altes Buch", "mein altes Buch", "meinem alten Buch"),
    ],
)
def test_singular_is_declined_by_gender_and_case(noun, determiner, nominative, accusative, dative):
    def german(case):
        return noun_phrase(noun, determiner=determiner, case=case, adjective=OLD).german

    assert [german("nominative"), german("accusative"), german("dative")] == [
        nominative,
        accusative,
        dative,
    ]


@pytest.mark.parametrize(
    ("noun", "determiner", "nominative", "accusative", "dative"),
    [
        (MAN, "the", "die alten Männer", "die alten Männer", "den alten Männern"),
        (LAMP, "my", "meine alten Lampen", "meine alten Lampen", "meinen alten Lampen"),
        (BOOK, "the", "die alten Bücher", "die alten Bücher", "den alten Büchern"),
        (CAR, "my", "meine alten Autos", "meine alten Autos", "meinen alten Autos"),
    ],
)
def test_plural_is_declined_by_case(noun, determiner, nominative, accusative, dative):
    def german(case):
        phrase = noun_phrase(noun, determiner=determiner, case=case, plural=True, adjective=OLD)
        return phrase.german

    assert [german("nominative"), german("accusative"), german("dative")] == [
        nominative,
        accusative,
        dative,
    ]


def test_phrase_without_adjective_has_article_and_noun_alone():
    assert noun_phrase(LAMP, determiner="the", case="dative") == ("the lamp", "der Lampe")


def test_weak_masculine_noun_has_an_ending_in_accusative_and_dative():
    assert noun_phrase(BOY, determiner="the", case="nominative").german == "der Junge"
    assert noun_phrase(BOY, determiner="the", case="accusative").german == "den Jungen"
    assert noun_phrase(BOY, determiner="a", case="dative").german == "einem Jungen"


def test_english_article_fits_the_sound_of_the_next_word():
    assert noun_phrase(BOOK, determiner="a", case="nominative").english == "a book"
    phrase = noun_phrase(BOOK, determiner="a", case="nominative", adjective=OLD)
    assert phrase.english == "an old book"


@pytest.mark.parametrize(
    ("case", "german"),
    [
        ("nominative", "zwei alte Bücher"),
        ("accusative", "zwei alte Bücher"),
        ("dative", "zwei alten Büchern"),
    ],
)
def test_adjective_after_a_number_is_strong(case, german):
    assert counted_phrase(2, BOOK, case=case, adjective=OLD) == ("two old books", german)


def test_dropped_e_of_expensive_is_in_the_tables():
    expensive = next(each for each in demo_corpus.THING_ADJECTIVES if each.english == "expensive")
    phrase = noun_phrase(CAR, determiner="a", case="accusative", adjective=expensive)
    assert phrase == ("an expensive car", "ein teures Auto")


def test_place_is_dative_and_direction_accusative_and_both_contract():
    def inside(noun, case):
        place = noun_phrase(noun, determiner="the", case=case)
        return place_phrase(IN, place).german

    shelf = Noun("shelf", "shelves", "Regal", "n", "Regale")
    assert inside(BOX, "dative") == "in der Kiste"
    assert inside(BOX, "accusative") == "in die Kiste"
    assert inside(shelf, "dative") == "im Regal"
    assert inside(shelf, "accusative") == "ins Regal"
    # Only "in dem", not "in" with another article that begins alike.
    assert inside(MAN, "accusative") == "in den Mann"


def test_numbers_dates_times_and_prices_are_written_as_each_language_does():
    day = datetime.date(2026, 3, 1)  # a Sunday
    assert number_words(23) == ("twenty-three", "dreiundzwanzig")
    assert number_words(312) == ("three hundred and twelve", "dreihundertzwölf")
    assert calendar_date(day) == ("on March 1, 2026", "am 1. März 2026")
    assert weekday_date(day) == ("on Sunday, March 1, 2026", "am Sonntag, dem 1. März 2026")
    assert clock_time(15, 5) == ("3:05 PM", "15:05")
    assert clock_time(0, 30) == ("12:30 AM", "00:30")
    assert price(12, 5) == ("€12.05", "12,05 €")


# Word orders of one and the same clause. Perfect, modal verb and separable prefix go to the end;
# after a fronted time the subject follows the verb; after weil the finite verb is last.
@pytest.mark.parametrize(
    ("verb", "mode", "orders"),
    [
        (
            BUY,
            "past",
            [
                "Anna hat gestern das Buch gekauft",
                "gestern hat Anna das Buch gekauft",
                "hat Anna gestern das Buch gekauft",
                "Anna gestern das Buch gekauft hat",
            ],
        ),
        (
            BUY,
            WANT,
            [
                "Anna will gestern das Buch kaufen",
                "gestern will Anna das Buch kaufen",
                "will Anna gestern das Buch kaufen",
                "Anna gestern das Buch kaufen will",
            ],
        ),
        (
            CALL,
            "present",
            [
                "Anna ruft gestern das Buch an",
                "gestern ruft Anna das Buch an",
                "ruft Anna gestern das Buch an",
                "Anna gestern das Buch anruft",
            ],
        ),
        (
            CALL,
            WILL,
            [
                "Anna wird gestern das Buch anrufen",
                "gestern wird Anna das Buch anrufen",
                "wird Anna gestern das Buch anrufen",
                "Anna gestern das Buch anrufen wird",
            ],
        ),
    ],
)
def test_german_word_order_follows_the_kind_of_clause(verb, mode, orders):
    clause = Clause(ANNA, verb_forms(verb, mode, "third"), THE_BOOK, YESTERDAY)
    rendered = [each(clause).german for each in (statement, fronted, question, subordinate)]
    assert rendered == orders


def test_english_word_order_follows_the_kind_of_clause():
    clause = Clause(ANNA, verb_forms(BUY, "past", "third"), THE_BOOK, YESTERDAY)
    assert statement(clause).english == "Anna bought the book yesterday"
    assert fronted(clause).english == "yesterday Anna bought the book"
    assert subordinate(clause).english == "Anna bought the book yesterday"
    asked = question(clause, Phrase("why", "warum"))
    assert asked.english == "why did Anna buy the book yesterday"
    assert asked.german == "warum hat Anna gestern das Buch gekauft"


@pytest.mark.parametrize(
    ("subject", "mode", "english", "german"),
    [
        (I, "present", "do I buy", "kaufe ich"),
        (ANNA, "present", "does Anna buy", "kauft Anna"),
        (WE, "present", "do we buy", "kaufen wir"),
        (I, "past", "did I buy", "habe ich gekauft"),
        (WE, "past", "did we buy", "haben wir gekauft"),
        (I, WILL, "will I buy", "werde ich kaufen"),
        (ANNA, WILL, "will Anna buy", "wird Anna kaufen"),
        (I, MUST, "must I buy", "muss ich kaufen"),
        (WE, MUST, "must we buy", "müssen wir kaufen"),
        (I, WANT, "do I want to buy", "will ich kaufen"),
        (ANNA, WANT, "does Anna want to buy", "will Anna kaufen"),
    ],
)
def test_verb_agrees_with_its_subject(subject, mode, english, german):
    clause = Clause(subject, verb_forms(BUY, mode, subject.agreement), Phrase("", ""))
    assert question(clause) == (english, german)


def test_statement_with_a_modal_verb_agrees_too():
    clause = Clause(ANNA, verb_forms(BUY, WANT, "third"), THE_BOOK)
    assert statement(clause).english == "Anna wants to buy the book"
    assert statement(clause._replace(subject=WE, verb=verb_forms(BUY, WANT, "plural"))) == (
        "we want to buy the book",
        "wir wollen das Buch kaufen",
    )


def test_verb_of_motion_makes_its_perfect_with_sein():
    forms = verb_forms(ARRIVE, "past", "plural")
    clause = Clause(WE, forms, Phrase("", ""))
    assert statement(clause).german == "wir sind angekommen"
    assert subordinate(clause).german == "wir angekommen sind"


def verbs_of_the_tables():
    tables = [table for table in vars(demo_corpus).values() if isinstance(table, tuple)]
    verbs = {each for table in tables for each in table if type(each) is Verb}
    return verbs | {each for each in vars(demo_corpus).values() if type(each) is Verb}


def test_every_verb_of_the_tables_is_regular_where_forms_are_derived():
    verbs = verbs_of_the_tables()
    assert len(verbs) > 40
    for verb in verbs:
        assert verb.german.endswith("en"), verb  # -eln and -ern have another first person
        assert verb.german_third.endswith("t"), verb
        assert verb.participle.startswith(verb.prefix), verb


def test_every_participle_has_the_ge_that_its_verb_takes():
    # No ge after an inseparable prefix and in -ieren; else before the stem, after a separable one.
    for verb in verbs_of_the_tables():
        without_ge = verb.german.startswith(("be", "ver")) or verb.german.endswith("ieren")
        assert verb.participle.removeprefix(verb.prefix).startswith("ge") != without_ge, verb


def test_the_same_english_always_has_the_same_german():
    generator = random.Random(7)
    seen = {}
    for _ in range(20_000):
        pair = draw_pair(generator)
        assert seen.setdefault(pair.source, pair.target) == pair.target


def test_more_than_a_hundred_thousand_pairs_are_possible():
    # Of one pattern alone: `My|the EVENT begins|began|will begin on DATE.`
    days = (demo_corpus.LAST_DAY - demo_corpus.FIRST_DAY).days + 1
    dates = [
        calendar_date(demo_corpus.FIRST_DAY + datetime.timedelta(days=day)) for day in range(days)
    ]
    verbs = {
        verb_forms(verb, mode, "third")
        for verb in demo_corpus.EVENT_VERBS
        for mode in ("present", "past", WILL)
    }
    events = {
        noun_phrase(event, determiner=determiner, case="nominative")
        for event in demo_corpus.EVENTS
        for determiner in ("the", "my")
    }
    english, german = (
        len({verb.statement for verb in verbs}) * len({event.english for event in events}),
        len({verb.finite + verb.end for verb in verbs}) * len({event.german for event in events}),
    )
    assert english * len({date.english for date in dates}) >= 100_000
    assert german * len({date.german for date in dates}) >= 100_000


def test_as_many_pairs_as_asked_for_are_made_and_no_source_twice():
    pairs = generate_pairs(20_000, seed=3)
    assert len({pair.source for pair in pairs}) == len(pairs) == 20_000


def test_equal_seeds_give_equal_pairs_and_others_do_not():
    assert generate_pairs(200, seed=5) == generate_pairs(200, seed=5)
    assert generate_pairs(200, seed=5) != generate_pairs(200, seed=6)
    assert generate_pairs(300, seed=5)[:200] == generate_pairs(200, seed=5)


def test_sentences_are_short_and_written_as_sentences():
    for pair in generate_pairs(5000, seed=2):
        assert 4 <= len(pair.source.split()) <= 14
        for text in pair:
            assert re.fullmatch(r"[A-ZÄÖÜ€][^.?!]*(\d[.:,][^.?!]*)*[.?]", text), text
            assert "  " not in text
            assert text.isprintable()


def test_every_kind_of_sentence_is_drawn():
    sources = [pair.source for pair in generate_pairs(3000, seed=4)]
    starts = ("If ", "Why ", "Did ", "On ", "It ", "Yesterday ")
    insides = (
        " because ",
        " that ",
        " plus ",
        " minus ",
        "€",
        " PM",
        " born ",
        " page ",
        " degrees",
    )
    for start in starts:
        assert any(source.startswith(start) for source in sources), start
    for inside in insides:
        assert any(inside in source for source in sources), inside


def test_written_parts_are_parallel_and_share_no_source(tmp_path):
    write_corpus(tmp_path / "new" / "corpus", seed=9, train=300, validation=40, test=30)
    sources = []
    for name, count in (("train", 300), ("validation", 40), ("test", 30)):
        source, target = (
            (tmp_path / "new" / "corpus" / f"{name}.{language}").read_bytes()
            for language in ("en", "de")
        )
        assert source.count(b"\n") == target.count(b"\n") == count
        assert source.endswith(b"\n")
        assert b"\r" not in source + target
        lines = source.decode("utf-8").split("\n")[:-1]
        pairs = [
            SentencePair(*pair)
            for pair in zip(lines, target.decode("utf-8").split("\n")[:-1], strict=True)
        ]
        assert set(pairs) <= set(generate_pairs(370, seed=9))
        sources += lines
    assert len(set(sources)) == 370


def test_corpus_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="corpus: cannot be written: Not a directory"):
        write_corpus(tmp_path / "file" / "corpus", seed=1, train=1, validation=1, test=1)
