"""Processes that die, in memory: what is poisoned brings down whoever touches it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future

import pytest

from featurestore.errors import BackboneError, StoreWriteError
from featurestore.extraction.executors.coordinator import BLOCKS_AT_ONCE, Coordinator
from featurestore.extraction.executors.host import Piece
from featurestore.extraction.processing import Processed

ROWS = 8


class Death(Exception):
    pass


class Pool:
    """Does pieces at once; a process that died does nothing until it is replaced."""

    def __init__(self, blocks=range(6), size=2, poison=(), tries=3, deaths=0):
        self.size, self.tries, self.todo, self.poison, self.deaths = size, tries, list(blocks), set(poison), deaths
        self.dead, self.rows, self.marks, self.pieces, self.replaced = set(), Counter(), {}, [], 0
        self.error = None

    def start(self, number):
        return self._future(lambda: self.todo)

    def ask(self, number, piece):
        assert number not in self.dead
        self.pieces.append(piece)
        return self._future(lambda: self._process(number, piece))

    def replace(self, number):
        self.dead.remove(number)
        self.replaced += 1

    def close(self):
        pass

    def _future(self, call):
        future = Future()
        try:
            future.set_result(call())
        except Death as error:
            future.set_exception(error)
        return future

    def _process(self, number, piece):
        if self.error:
            return self.error
        if piece.reason:
            (row,) = piece.rows
            self.marks[piece.blocks[0], row] = piece.reason
            return Processed()
        done = Processed()
        for block in piece.blocks:
            places = {(block, row) for row in piece.rows or range(ROWS)} - self.marks.keys() - self.rows.keys()
            if self.deaths or places & self.poison:
                self.deaths -= self.deaths > 0
                self.dead.add(number)
                raise Death
            self.rows.update(places)
            done.embedded["request"] += len(places)
        return done


def run(pool, choose=lambda blocks: blocks):
    return Coordinator(pool, ROWS, lambda: None).run(choose)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_block_is_done_once(size):
    pool = Pool(range(37), size)
    assert run(pool).embedded["request"] == 37 * ROWS
    assert set(pool.rows.values()) == {1} and len(pool.rows) == 37 * ROWS
    assert max(len(piece.blocks) for piece in pool.pieces) <= BLOCKS_AT_ONCE


def test_many_blocks_are_handed_out_together():
    pool = Pool(range(1000), 2)
    run(pool)
    assert {len(piece.blocks) for piece in pool.pieces} == {BLOCKS_AT_ONCE, 1000 % BLOCKS_AT_ONCE}


def test_only_what_is_chosen_is_done():
    pool = Pool()
    run(pool, lambda blocks: blocks[1::2])
    assert {block for block, _ in pool.rows} == {1, 3, 5}


@pytest.mark.parametrize("deaths", [1, 2, 5])
def test_deaths_cost_nothing_but_time(deaths):
    pool = Pool(range(40), 2, deaths=deaths)
    run(pool)
    assert len(pool.rows) == 40 * ROWS and pool.replaced == deaths and not pool.marks


def test_images_that_kill_are_marked_and_all_others_embedded():
    poison = {(3, 5), (3, 6), (0, 0), (30, 7)}
    pool = Pool(range(40), 2, poison)
    run(pool)
    assert pool.marks == dict.fromkeys(poison, "the process that embeds it dies or fails")
    assert pool.rows.keys() == {(block, row) for block in range(40) for row in range(ROWS)} - poison


def test_a_block_is_tried_again_before_it_is_taken_apart():
    pool = Pool([3], 1, {(3, 5)}, tries=3)
    run(pool)
    assert pool.pieces.count(Piece((3,))) == 3


def test_where_everything_dies_nothing_more_is_marked():
    pool = Pool(range(40), 2, {(block, row) for block in range(40) for row in range(ROWS)})
    with pytest.raises(BackboneError, match=r"more than 16 images brought down .* It is hardly the images"):
        run(pool)
    assert len(pool.marks) <= 16


def test_an_error_that_says_what_to_do_ends_the_run():
    pool = Pool()
    pool.error = StoreWriteError("the store cannot be written: disk full", where="s", hint="Free some.")
    with pytest.raises(StoreWriteError, match="disk full"):
        run(pool)


def test_a_process_that_cannot_start_ends_the_run():
    pool = Pool()
    pool._future = lambda call: _failed()
    with pytest.raises(BackboneError, match=r"a process died as it loaded its models: killed \[extract\]. Free memory"):
        run(pool)


def _failed():
    future = Future()
    future.set_exception(Death("killed\nby whom"))
    return future
