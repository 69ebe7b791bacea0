import errno
import fcntl
import json
import os
import resource

import pytest

from seq2seq import durable_files, journal
from seq2seq.errors import LockedError, ModelError, StorageError, UsageError
from seq2seq.journal import resumable_output

TEXTS = ["eins", "zwei", "", "vier", "fünf", "sechs", "sieben"]
SETTINGS = {"beam_size": 5, "sampling": None, "shape": (1, 2)}
WINDOW = 2
WHOLE = "".join(f"<{text}>\n" for text in TEXTS).encode()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.txt"


@pytest.fixture
def partial(tmp_path):
    return tmp_path / ".out.txt.partial"


@pytest.fixture
def marks(tmp_path):
    """The journal."""
    return tmp_path / ".out.txt.journal"


def run(path, *, texts=TEXTS, settings=SETTINGS, resume=False, fail_after=None):
    """One run, which may fail; how many lines it wrote and the counts it found."""
    with resumable_output(path, texts, settings=lambda: settings, resume=resume) as output:
        written, counts = 0, dict(output.saved.counts)
        for text in output.texts:
            if written == fail_after:
                raise ZeroDivisionError("at work")
            output.write(text, f"<{text}>\n")
            written += 1
            if output.lines % WINDOW == 0:
                output.save({"seen": output.lines})
        return written, counts


def leave(path, *, lines):
    """What a run that was killed after so many lines leaves."""
    with pytest.raises(ZeroDivisionError) as raised:
        run(path, fail_after=lines)
    return raised.value


# --- one run --------------------------------------------------------------------------------------


def test_an_output_appears_only_when_it_is_whole_and_nothing_else_stays(path, tmp_path):
    with resumable_output(path, TEXTS, settings=lambda: SETTINGS, resume=False) as output:
        for text in output.texts:
            output.write(text, f"<{text}>\n")
            output.save({})
            assert not path.exists()
    assert path.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [path]


def test_resuming_nothing_is_starting(path, tmp_path):
    assert run(path, resume=True) == (len(TEXTS), {})
    assert path.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [path]


def test_an_output_has_the_permissions_of_any_new_file(path, tmp_path):
    run(path)
    (tmp_path / "other.txt").touch()
    assert path.stat().st_mode == (tmp_path / "other.txt").stat().st_mode


def test_every_mark_is_of_bytes_that_are_there(path, partial, marks):
    with resumable_output(path, TEXTS, settings=lambda: SETTINGS, resume=False) as output:
        for text in output.texts:
            output.write(text, f"<{text}>\n")
            output.save({"seen": 7})
            header, *_, last = marks.read_bytes().splitlines(keepends=True)
            assert json.loads(header)["settings"] == {**SETTINGS, "shape": [1, 2]}
            mark = json.loads(last)
            assert last.endswith(b"\n")
            assert (mark["lines"], mark["counts"]) == (output.lines, {"seen": 7})
            assert mark["size"] == len(partial.read_bytes())


def test_the_partial_file_is_synced_before_the_mark_is_written(path, marks, monkeypatch):
    synced = []

    def fsync(descriptor):
        synced.append((os.fstat(descriptor).st_ino, len(marks.read_bytes().splitlines())))

    with resumable_output(path, TEXTS, settings=lambda: SETTINGS, resume=False) as output:
        monkeypatch.setattr(os, "fsync", fsync)
        output.write("eins", "<eins>\n")
        output.save({})
        monkeypatch.undo()
        inodes = [marks.with_name(".out.txt.partial").stat().st_ino, marks.stat().st_ino]
    assert synced == list(zip(inodes, [1, 2], strict=True))


# --- what a failure leaves ------------------------------------------------------------------------


def test_what_fails_before_anything_is_saved_leaves_nothing(path, tmp_path):
    for lines in (0, 1):
        error = leave(path, lines=lines)
        assert not hasattr(error, "__notes__")
        assert list(tmp_path.iterdir()) == []


def test_what_fails_later_keeps_what_was_saved_and_says_so(path, partial, marks, tmp_path):
    error = leave(path, lines=5)
    assert error.__notes__ == [f"{path}: 4 lines are translated and kept; --resume goes on there"]
    assert set(tmp_path.iterdir()) == {partial, marks}


@pytest.mark.parametrize("lines", range(len(TEXTS)))
def test_going_on_gives_what_one_run_gives(path, tmp_path, lines):
    leave(path, lines=lines)
    kept = lines // WINDOW * WINDOW
    assert run(path, resume=True) == (len(TEXTS) - kept, {"seen": kept} if kept else {})
    assert path.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [path]


def test_it_may_fail_again_and_again(path):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            run(path, resume=True, fail_after=2)
    assert run(path, resume=True)[0] == 1
    assert path.read_bytes() == WHOLE


def test_a_failed_start_leaves_what_was_there(path, partial, marks):
    leave(path, lines=4)
    before = partial.read_bytes(), marks.read_bytes()
    path.write_bytes(b"precious")
    for resume in (True, False):
        with pytest.raises(UsageError, match=r"out\.txt: exists already; delete it or choose"):
            run(path, resume=resume)
    assert (partial.read_bytes(), marks.read_bytes()) == before
    assert path.read_bytes() == b"precious"


def test_an_interrupt_between_the_last_two_steps_leaves_a_whole_output(path, marks, monkeypatch):
    def interrupt_if_renamed(folder):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(durable_files, "sync", interrupt_if_renamed)
    with pytest.raises(KeyboardInterrupt) as raised:
        run(path)
    assert path.read_bytes() == WHOLE
    assert not hasattr(raised.value, "__notes__")
    assert not marks.exists()


def test_a_journal_without_its_partial_file_counts_for_nothing(path, partial):
    leave(path, lines=6)
    partial.unlink()
    assert run(path) == (len(TEXTS), {})
    assert path.read_bytes() == WHOLE


def test_a_partial_file_without_its_journal_is_written_anew(path, marks, tmp_path):
    leave(path, lines=6)
    marks.unlink()
    assert run(path) == (len(TEXTS), {})
    assert path.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [path]


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 30])
def test_a_mark_that_was_cut_off_does_not_count(path, marks, cut):
    leave(path, lines=6)
    marks.write_bytes(marks.read_bytes()[:-cut])
    assert run(path, resume=True) == (3, {"seen": 4})
    assert path.read_bytes() == WHOLE


def test_after_a_mark_that_was_cut_off_new_ones_count(path, marks):
    leave(path, lines=4)
    marks.write_bytes(marks.read_bytes()[:-5])
    with pytest.raises(ZeroDivisionError):
        run(path, resume=True, fail_after=2)
    assert run(path, resume=True) == (3, {"seen": 4})
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("damage", [b"\0" * 100 + b"\n", b"[1]\n", b'{"lines": 6, "x": 1}\n'])
def test_marks_after_one_that_cannot_be_read_do_not_count(path, marks, damage):
    leave(path, lines=6)
    lines = marks.read_bytes().splitlines(keepends=True)
    marks.write_bytes(b"".join([*lines[:2], damage, *lines[3:]]))
    assert run(path, resume=True) == (5, {"seen": 2})
    assert path.read_bytes() == WHOLE


def test_a_header_that_was_cut_off_counts_for_nothing(path, marks):
    leave(path, lines=6)
    marks.write_bytes(marks.read_bytes()[:20])
    assert run(path) == (len(TEXTS), {})
    assert path.read_bytes() == WHOLE


def test_a_longer_partial_file_is_cut_to_the_mark(path, partial):
    leave(path, lines=5)
    with partial.open("ab") as file:
        file.write(b"half a li")
    assert run(path, resume=True)[0] == 3
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize(("missing", "kept"), [(1, 4), (16, 4), (17, 2), (26, 2), (27, 0)])
def test_marks_beyond_a_shorter_partial_file_do_not_count(path, partial, missing, kept):
    leave(path, lines=6)
    content = partial.read_bytes()
    # Of two lines each: 14 bytes, 10, and 16, where ü is two.
    partial.write_bytes(content[: len(content) - missing])
    with pytest.raises(ZeroDivisionError):
        run(path, resume=True, fail_after=1)  # marks that were passed over must not come back
    assert run(path, resume=True)[0] == len(TEXTS) - kept
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize(
    "header",
    [b"my diary\n", b"[]\n", b'{"format": 2, "settings": {}}\n', b'{"format": 1}\n', b"\xff\n"],
)
def test_another_kind_of_journal_is_left_alone(path, marks, header):
    marks.write_bytes(header)
    for resume in (True, False):
        with pytest.raises(
            ModelError, match=r"\.out\.txt\.journal: not the journal of a translation by this"
        ):
            run(path, resume=resume)
    assert marks.read_bytes() == header


# --- refusals -------------------------------------------------------------------------------------


@pytest.fixture
def half(path, partial, marks):
    """An output of which four lines are done, and can be gone on with after the test."""
    leave(path, lines=4)
    before = partial.read_bytes(), marks.read_bytes()
    yield path
    assert (partial.read_bytes(), marks.read_bytes()) == (before[0][:24], before[1])
    assert run(path, resume=True)[0] == 3
    assert path.read_bytes() == WHOLE


def test_what_is_half_done_is_not_begun_again_by_mistake(half, marks):
    with pytest.raises(UsageError) as raised:
        run(half)
    assert str(raised.value) == (
        f"{half}: 4 lines are translated already; go on with --resume, or delete {marks} to start "
        "again"
    )
    assert not hasattr(raised.value, "__notes__")


def test_other_settings_are_all_listed(half, marks):
    with pytest.raises(ModelError) as raised:
        run(half, resume=True, settings={"beam_size": 4, "shape": (1, 2), "seed": 3})
    assert str(raised.value) == (
        f"{half}: 4 lines are translated with other settings: beam_size was 5, is 4; seed was "
        f"None, is 3; give the same, or delete {marks} to start again"
    )


@pytest.mark.parametrize(
    "texts", [["eins", "ZWEI", *TEXTS[2:]], ["", *TEXTS], TEXTS[1:], TEXTS[:3], [], ["eins\nzwei"]]
)
def test_an_input_that_begins_otherwise_is_refused(half, marks, texts):
    with pytest.raises(ModelError) as raised:
        run(half, resume=True, texts=texts)
    assert str(raised.value) == (
        f"{half}: the first 4 lines of the input are not those that were translated; give the "
        f"same input, or delete {marks} to start again"
    )
    assert not hasattr(raised.value, "__notes__")


def test_lines_that_are_not_done_may_be_corrected(path):
    leave(path, lines=5)
    run(path, resume=True, texts=[*TEXTS[:4], "FÜNF", "SECHS"])
    assert path.read_bytes() == "<eins>\n<zwei>\n<>\n<vier>\n<FÜNF>\n<SECHS>\n".encode()


def test_an_output_is_written_by_one_process_at_a_time(path):
    message = r"out\.txt: another process is writing it; wait for it or stop it"
    with resumable_output(path, TEXTS, settings=lambda: SETTINGS, resume=False) as output:
        for resume in (True, False):
            with pytest.raises(LockedError, match=message):
                run(path, resume=resume)
        for text in output.texts:
            output.write(text, f"<{text}>\n")
    assert path.read_bytes() == WHOLE


def test_a_journal_deleted_while_waiting_for_its_lock_is_not_written(path, marks, monkeypatch):
    flock, calls = fcntl.flock, []

    def late(file, operation):
        calls.append(file)
        if len(calls) == 1:
            marks.unlink()  # as the process that held it does when it is done
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    leave(path, lines=4)
    assert len(calls) == 2
    assert marks.exists()
    assert run(path, resume=True)[0] == 3


def test_a_file_system_without_locks_will_do(path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    leave(path, lines=4)
    assert run(path, resume=True)[0] == 3
    assert path.read_bytes() == WHOLE


# --- storage --------------------------------------------------------------------------------------


def test_a_missing_folder_is_an_error_that_names_the_output(tmp_path):
    with pytest.raises(StorageError, match=r"no/out\.txt: cannot be written: No such file"):
        run(tmp_path / "no" / "out.txt")


def test_a_disk_that_is_full_at_the_start_leaves_nothing(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "_append", full)
    with pytest.raises(StorageError, match=r"out\.txt: cannot be written: No space left"):
        run(path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_later_keeps_what_was_saved(path, marks):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    leave(path, lines=2)
    size = marks.stat().st_size  # with one mark; there is room for half of another
    marks.unlink()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"out\.txt: cannot be written: ") as raised:
            run(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.__notes__[0].startswith(f"{path}: 2 lines are translated and kept; ")
    assert run(path, resume=True)[0] == 5
    assert path.read_bytes() == WHOLE


def test_output_that_finds_no_room_keeps_what_was_saved(path):
    texts = ["a", "b", "x" * 5000, "c"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"out\.txt: cannot be written: ") as raised:
            run(path, texts=texts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.__notes__[0].startswith(f"{path}: 2 lines are translated and kept; ")
    assert run(path, texts=texts, resume=True)[0] == 2
    assert path.read_bytes() == "".join(f"<{text}>\n" for text in texts).encode()
