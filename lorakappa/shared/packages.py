"""The packages by name: what each is for, where its command line is and where its claims are."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Package:
    """One package.

    Attributes:
        name: of the folder, of the module under `lorakappa`, and of the command.
        summary: one line for the help of the command.
        claims: module whose `CLAIMS` maps ids to claims; None if it makes none.
        extra: of this distribution that it needs; empty for none.
    """

    name: str
    summary: str
    claims: str | None = None
    extra: str = ""

    @property
    def command(self) -> str:
        """The module whose `app` is its command line."""
        return f"lorakappa.{self.name}.command"


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "conditioning",
            "Exact theory of LoRA's conditioning: claims, certified verdicts, κ of your own factors.",
            "lorakappa.conditioning.claims",
        ),
        Package(
            "synthetic",
            "Simulated training with LoRA, BaLoRA, iLoRA and others, and measured rates against the bounds.",
            "lorakappa.synthetic.claims",
        ),
        Package(
            "llm",
            "LoRA on real language models: methods compared, adapters audited and balanced.",
            "lorakappa.llm.comparison.claims",
            "llm",
        ),
        Package("figures", "Figures of saved results."),
    )
}

CLAIMS = {package.name: package.claims for package in PACKAGES.values() if package.claims}
"""Module of the claims by package."""
