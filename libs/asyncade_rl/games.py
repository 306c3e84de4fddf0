"""The games' screen size and numbers of actions, known without an emulator.

The learner's image has no emulator, but needs both to build the network. A test compares the table
with ale-py. An installed package adds a game by an entry point in the group `GROUP`, whose object
is a `Game`: examples/my_game is one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Final, NamedTuple

FRAME_SIDE: Final = 84
"""Pixels on each side of a frame."""

CATCH: Final = "catch"
"""The toy game of `asyncade_rl.envs.catch`."""

_GAMES: Final = {
    3: "backgammon freeway skiing",
    4: "atlantis atlantis2 blackjack breakout casino kaboom",
    5: "frogger pacman surround tetris video_checkers",
    6: """
        air_raid basic_math bowling carnival demon_attack galaxian king_kong name_this_game pong
        pooyan qbert sir_lancelot space_invaders up_n_down
    """,
    7: "assault",
    8: "gopher phoenix tutankham",
    9: """
        asterix beam_rider crazy_climber enduro koolaid lost_luggage ms_pacman video_pinball
    """,
    10: """
        amidar mr_do othello tic_tac_toe_3d time_pilot video_chess wizard_of_wor
    """,
    12: "turmoil",
    14: "asteroids keystone_kapers kung_fu_master",
    16: "journey_escape",
    18: """
        adventure alien bank_heist battle_zone berzerk boxing centipede chopper_command crossbow
        darkchambers defender donkey_kong double_dunk earthworld elevator_action entombed et
        fishing_derby flag_capture frostbite gravitar hangman haunted_house hero
        human_cannonball ice_hockey jamesbond kangaroo klax krull laser_gates mario_bros
        miniature_golf montezuma_revenge pitfall pitfall2 private_eye riverraid road_runner
        robotank seaquest solaris space_war star_gunner superman tennis trondead venture
        video_cube word_zapper yars_revenge zaxxon
    """,
}
"""ALE's single-player games by the size of their minimal action sets."""

NUM_ACTIONS: Final = {
    CATCH: 3,
    **{game: count for count, games in _GAMES.items() for game in games.split()},
}
"""Size of the minimal action set by game id: ALE's single-player games, and `CATCH`."""


_LARGEST_REWARD: Final = {CATCH: 1.0, "pong": 1.0}
"""Where one env step is known to bring or cost no more than this."""


GROUP: Final = "asyncade.games"
"""The entry points of installed games; a name of the table above is not taken from there."""


class Game(NamedTuple):
    """A game of an installed package.

    Attributes:
        num_actions: size of its discrete action space, at least 1.
        make: returns a new gymnasium.Env with images as observations, uint8 [H, W], [H, W, 1] or
            [H, W, 3]. Only actors and evaluators call it: where the emulator is imported within it,
            the learner needs none.
        largest_reward: no reward of one step is larger, in either direction; the learner then
            checks the returns that actors report more closely. Infinite: not known.
    """

    num_actions: int
    make: Callable[[], Any]
    largest_reward: float = math.inf


class UnknownGameError(ValueError):
    """No game has this id, or that of a package cannot be used; the message says what to do."""


def num_actions(game: str) -> int:
    """Returns the size of a game's (minimal) action set.

    Raises:
        UnknownGameError: no game has this id, or that of a package cannot be loaded.
    """
    return NUM_ACTIONS[game] if game in NUM_ACTIONS else installed(game).num_actions


def largest_reward(game: str) -> float:
    """Returns the most that one env step brings or costs, at least 1; infinite if not known.

    Raises:
        UnknownGameError: no game has this id, or that of a package cannot be loaded.
    """
    if game in NUM_ACTIONS:
        return _LARGEST_REWARD.get(game, math.inf)
    return max(1.0, installed(game).largest_reward)


def installed(game: str) -> Game:
    """Returns the game of an installed package.

    Raises:
        UnknownGameError: no package has a game of this id, or it cannot be loaded.
    """
    found = entry_points(group=GROUP)
    if game not in found.names:
        raise _unknown(game, sorted(found.names))
    entry = found[game]
    try:
        loaded = entry.load()
    except Exception as error:  # a package may raise anything
        raise UnknownGameError(
            f"game {game!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, Game) or loaded.num_actions < 1:
        raise UnknownGameError(
            f"game {game!r}: {entry.value} is {loaded!r}, not an asyncade_rl.games.Game"
        )
    return loaded


def _unknown(game: str, of_packages: list[str]) -> UnknownGameError:
    if game.lower() in (known := [*NUM_ACTIONS, *of_packages]):
        return UnknownGameError(f"unknown game {game!r}; did you mean {game.lower()}?")
    near = difflib.get_close_matches(game.lower(), known, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    return UnknownGameError(
        f"unknown game {game!r}{hint} There are ale-py's (pong, space_invaders, ...), {CATCH}, and"
        f" those of installed packages ({', '.join(of_packages) or 'none here'}); docs/extending.md"
        " says how to add one"
    )
