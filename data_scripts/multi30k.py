"""Multi30k task 1: image captions in English, German, French and Czech, one a line.

    python data_scripts/multi30k.py [--languages de fr cs] [--output data/multi30k] [--from DIR]

Writes SPLIT.LANGUAGE for English and each language asked for:

    train 29,000   val 1,014   test_2016_flickr 1,000   test_2017_flickr 1,000 (not Czech)
    test_2017_mscoco 461 (not Czech)

The files are those of github.com/multi30k/dataset, data/task1/raw, unpacked and otherwise
untouched. English, German and French are checked against the sha256 of the unpacked text. No sum
of the Czech files is known here: only their encoding and number of lines are checked.

Licence: the repository has none. Its README says of the images, from Flickr30K, "non-commercial
research and/or educational purposes": treat the text so too. Cite Elliott et al. 2016 (W16-3210)
and 2017 (W17-4718), for French also, and Barrault et al. 2018 (W18-6402) for Czech.
"""

from collections.abc import Sequence

import fetching

URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
)
LINES = {
    "train": 29_000,
    "val": 1_014,
    "test_2016_flickr": 1_000,
    "test_2017_flickr": 1_000,
    "test_2017_mscoco": 461,
}
NOT_PUBLISHED = {"test_2017_flickr.cs", "test_2017_mscoco.cs"}
SUMS = {  # sha256 of the unpacked text
    "test_2016_flickr.de": "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16",
    "test_2016_flickr.en": "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182",
    "test_2016_flickr.fr": "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6",
    "test_2017_flickr.de": "c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081",
    "test_2017_flickr.en": "ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98",
    "test_2017_flickr.fr": "6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6",
    "test_2017_mscoco.de": "58277df3c75f92f7145a11b910b553d1cf82c439249d4dc237c899609eafac22",
    "test_2017_mscoco.en": "43051fdfa86fd5395182e718a94ca67b1b227b9f7c79596ff0f6b813216981d2",
    "test_2017_mscoco.fr": "39cde3f43f32b0a6bf29ce4917a46329ff32e53070c2fac87506695a740ae0a0",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.fr": "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.fr": "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches, checks and writes the corpus.

    Raises:
        fetching.DataError: A file is not the published one.
        fetching.StorageError: A file cannot be fetched, read or written.
    """
    parser = fetching.parser(__doc__, output="data/multi30k", url=URL)
    parser.add_argument(
        "--languages",
        nargs="+",
        choices=["de", "fr", "cs"],
        default=["de", "fr"],
        help="beside English, default: de fr",
    )
    options = parser.parse_args(arguments)
    source = fetching.Source(options.url, options.folder)
    contents: dict[str, bytes] = {}
    for split, lines in LINES.items():
        for language in ("en", *options.languages):
            name = f"{split}.{language}"
            if name in NOT_PUBLISHED:
                continue
            contents[name] = source.read(f"{name}.gz", name)
            fetching.check_lines(name, contents[name], lines)
            if name in SUMS:
                fetching.check_sum(name, contents[name], SUMS[name])
    fetching.write_files(options.output, contents)


if __name__ == "__main__":
    fetching.run(main)
