"""The search for the cheapest setting: what each layer loses alone, then whatever may be cheaper or on the front."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from sweep.search.costs import Costs
from sweep.search.goal import Goal
from sweep.search.space import Setting, Space
from sweep.search.surrogate import Surrogate, front, improvement, logit, pool, total_costs
from sweep.statistics.estimates import Floats

BATCH = 4  # settings that are looked at together, or as many as there are layers
WORTH = 0.002  # of the cost: what a look is expected to save at least
DEPTH = 5  # drops below the limit, from which on the front is of interest
STEP = 10  # expected improvements of the front that fit into the drop, at least
LOOKS = 20  # settings that are looked at for each layer, beside those of one layer alone, at most
OPEN = 2.0  # standard errors from the limit within which a decision is open
AGAIN = 4  # times as many chips for those that are


class Search:
    """What is known of the settings of a space, on the chips of a search.

    Errors of it cost optimality and never validity: the answer is confirmed on other chips.

    Attributes:
        costs: of the space's options.
        finest: for each layer the option that costs most.
        chips: of each setting that was looked at, on how many.
    """

    def __init__(self, space: Space, costs: Costs, goal: Goal, tell: Callable[[str], None]) -> None:
        self.costs, self._space, self._goal, self._tell = costs, space, goal, tell
        self.finest: Setting = tuple(int(np.argmax(own)) for own in costs)
        self.chips: dict[Setting, int] = {}
        self._margin: dict[Setting, float] = {}
        self._error: dict[Setting, float] = {}

    def cost(self, setting: Setting) -> float:
        """All layers together."""
        return float(sum(own[k] for own, k in zip(self.costs, setting, strict=True)))

    def margin(self, setting: Setting) -> tuple[float, float]:
        """Of one that was looked at, with its standard error."""
        return self._margin[setting], self._error[setting]

    def look(self, settings: Iterable[Setting], chips: int) -> None:
        """Evaluate settings on so many chips, or as many as before."""
        todo = [s for s in dict.fromkeys(settings) if self.chips.get(s, 0) < chips]
        if todo:
            centres, errors = self._goal.searched([self._space.cell(s) for s in todo], chips)
            self.chips |= dict.fromkeys(todo, chips)
            self._margin |= zip(todo, centres.tolist(), strict=True)
            self._error |= zip(todo, errors.tolist(), strict=True)

    def alone(self, layer: int, option: int) -> Setting:
        """The finest setting, but for one layer."""
        return (*self.finest[:layer], option, *self.finest[layer + 1 :])

    def run(self) -> None:
        """Look at all that may matter."""
        first = self._goal.first
        alone = [self.alone(k, o) for k, own in enumerate(self.costs) for o in range(len(own))]
        uniform = list(self._space.uniform().values())
        self._tell(f"{len(set(alone))} settings of one layer, {len(uniform)} of all alike: {first} chips each")
        self.look([*alone, *uniform], first)
        effects = [
            np.array([self._logit(self.finest) - self._logit(self.alone(k, o)) for o in range(len(own))])
            for k, own in enumerate(self.costs)
        ]
        self._settings = pool(effects, self.costs)
        self._totals = total_costs(self._settings, self.costs)
        self._keys: list[Setting] = [tuple(row) for row in self._settings.tolist()]
        self._model = Surrogate(effects, self._logit(self.finest))
        most = len(self.chips) + LOOKS * len(self.costs)
        for chosen in (self._cheaper, self._on_the_front):
            while len(self.chips) < most and (found := chosen()):
                self.look(found, first)
                self._tell(f"{len(self.chips)} settings looked at; {self._so_far()}")
            self._race()

    def best(self) -> Setting | None:
        """The cheapest setting that probably keeps the budget; None where none does."""
        kept = [s for s in self.chips if self._margin[s] >= max(OPEN / 2 * self._error[s], 0)]
        return min(kept, key=lambda s: (self.cost(s), -self._margin[s]), default=None)

    def nearest(self) -> Setting:
        """The one with the largest margin."""
        return max(self.chips, key=lambda s: (self._margin[s], -self.cost(s)))

    def front(self) -> list[Setting]:
        """Of those that were looked at, what nothing beats that costs as much or less; by rising cost.

        Without those that lose many times what may be lost.
        """
        seen = list(self.chips)
        chosen = front(np.array([self.cost(s) for s in seen]), np.array([self._margin[s] for s in seen]))
        return [seen[k] for k in chosen.tolist() if self._accuracy(seen[k]) >= self._floor or k == chosen[-1]]

    def _race(self) -> None:
        """More chips for those whose decision is open, and could be the answer, or hide a cheaper one."""
        while True:
            best = self.best()
            top = np.inf if best is None else self.cost(best)
            opened = [
                s
                for s, n in self.chips.items()
                if self.cost(s) <= top and abs(self._margin[s]) < OPEN * self._error[s] and n < self._goal.most
            ]
            if not opened:
                return
            self._tell(f"{len(opened)} open: {AGAIN} times as many chips; {self._so_far()}")
            for chips in sorted({self.chips[s] for s in opened}):
                self.look([s for s in opened if self.chips[s] == chips], AGAIN * chips)

    def _cheaper(self) -> list[Setting]:
        """Settings that may be cheaper than the best so far and keep the budget: those that promise most."""
        self._race()
        mean, deviation = self._predicted()
        best = self.best()
        top = float(self._totals.max()) if best is None else self.cost(best)
        saved = (top - self._totals) / max(top, 1e-300)
        chance = special.ndtr((mean - logit(self._goal.limit)) / deviation)
        gain = np.where(saved > 0, saved, 0) * chance
        if best is None:  # whatever it saves
            gain = chance
        return self._most(gain, WORTH)

    def _on_the_front(self) -> list[Setting]:
        """Settings that may be more accurate than all that cost as much: those that promise most."""
        mean, deviation = self._predicted()
        known = self.front()
        costs = np.array([self.cost(s) for s in known])
        levels = np.array([self._accuracy(s) for s in known])
        place = np.searchsorted(costs, self._totals, side="right") - 1
        over = np.maximum(np.where(place >= 0, levels[np.maximum(place, 0)], 0.0), self._floor)
        accuracy = special.expit(mean)
        slope = accuracy * (1 - accuracy)
        return self._most(improvement(accuracy, deviation * slope, over), self._goal.budget.drop / 100 / STEP)

    def _most(self, gain: Floats, least: float) -> list[Setting]:
        order = np.argsort(-gain, kind="stable")
        found: list[Setting] = []
        for k in order.tolist():
            if gain[k] < least or len(found) == max(BATCH, len(self.costs)):
                break
            if self._keys[k] not in self.chips:
                found.append(self._keys[k])
        return found

    def _predicted(self) -> tuple[Floats, Floats]:
        near = [s for s in self.chips if self._accuracy(s) >= self._floor]  # those far below tell little of these
        seen = near or [self.finest]
        logits = np.array([self._logit(s) for s in seen])
        slopes = np.array([self._slope(s) for s in seen])
        self._model.fit(seen, logits, np.array([self._error[s] for s in seen]) * slopes)
        return self._model.predict(self._settings)

    @property
    def _floor(self) -> float:
        return self._goal.limit - DEPTH * self._goal.budget.drop / 100

    def _accuracy(self, setting: Setting) -> float:
        return self._goal.limit + self._margin[setting]

    def _logit(self, setting: Setting) -> float:
        return float(logit(self._accuracy(setting)))

    def _slope(self, setting: Setting) -> float:
        accuracy = float(special.expit(self._logit(setting)))
        return 1 / (accuracy * (1 - accuracy))

    def _so_far(self) -> str:
        best = self.best()
        if best is None:
            return "none keeps the budget yet"
        return f"the cheapest that keeps the budget costs {self.cost(best):,.0f}"
