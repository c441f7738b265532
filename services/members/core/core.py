"""The core of the members service: its store, its keys and its metrics, which the features are built on."""

from __future__ import annotations

from services.members.core.contacts import Contacts
from services.members.core.eraser import Eraser
from services.members.core.erasures import ErasureStore
from services.members.core.member_changes import MemberChanges
from services.members.core.metrics import MembersMetrics
from services.members.core.phones import BlindIndex
from services.members.core.reading import MemberReader
from services.members.core.store import MIGRATIONS, ConsentLedger, MemberStore, NoticeStore
from services.members.core.taken_phones import AnswerLimit, TakenPhones
from services.members.core.term_store import TermStore
from services.members.core.units import LiveUnits
from services.members.settings import MembersSettings
from services.shared.encryption import Vault
from services.shared.runtime import Feature, Runtime, vault_key


class Core:
    def __init__(self, runtime: Runtime, settings: MembersSettings) -> None:
        self.runtime = runtime
        self.settings = settings
        self.roles = settings.roles
        self.minors_allowed = settings.minors_allowed
        self.metrics = MembersMetrics(runtime.registry)
        self.store = MemberStore(runtime.database)
        self.ledger = ConsentLedger(runtime.database)
        self.notices = NoticeStore(runtime.database)
        self.terms = TermStore(runtime.database)
        self.units = LiveUnits(runtime.successions)
        self.changes = MemberChanges(runtime.outbox, self.store)
        self.vault = Vault(runtime.client, runtime.database, settings.master_keys)
        self.contacts = Contacts(self.vault, BlindIndex(settings.blind_index_key))
        self.erasure_rule = settings.erasure_rule
        self.erasures = ErasureStore(runtime.database)
        self.eraser = Eraser(self.erasures, self.vault, self.contacts)
        self.reader = MemberReader(self.store, self.contacts, runtime.clock, self.metrics)
        limit = AnswerLimit(
            runtime.clock, burst=settings.taken_phones_burst, per_hour=settings.taken_phones_per_hour
        )
        self.taken_phones = TakenPhones(self.reader, limit, self.metrics)

    def feature(self) -> Feature:
        return Feature(
            slow_gauges=[vault_key(self.vault, self.runtime.registry)],
            migrations=MIGRATIONS,
            on_close=[self.vault.close],
        )
