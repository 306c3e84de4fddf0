"""The games' screen size and numbers of actions, known without an emulator.

The learner's image has no emulator, but needs both to build the network. A test compares the table
with ale-py.
"""

from __future__ import annotations

import difflib
from typing import Final

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


class UnknownGameError(ValueError):
    """No game has this id; the message names the closest ids."""


def num_actions(game: str) -> int:
    """Returns the size of a game's minimal action set.

    Raises:
        UnknownGameError: no game has this id.
    """
    if game not in NUM_ACTIONS:
        near = difflib.get_close_matches(game.lower(), NUM_ACTIONS, n=3, cutoff=0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UnknownGameError(
            f"unknown game {game!r}{hint} (ids are ale-py's: pong, space_invaders, ...)"
        )
    return NUM_ACTIONS[game]
