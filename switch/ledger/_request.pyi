class Request:
    def __init__(
        self,
        kind: int = ...,
        *,
        pan_hash: bytes = ...,
        mti: str = "0100",
        scheme: int = 0,
        transmitted: str = "0101000000",
        stan: str = "000001",
        acquirer: str = "",
        rrn: str = "",
        amount: int | None = None,
        currency: int = 0,
        billing_amount: int | None = None,
        billing_currency: int = 0,
        expiry: int | None = None,
        processing_code: int = 0,
        advice_approved: bool = False,
        replacement_amount: int | None = None,
        replacement_billing_amount: int | None = None,
        original: tuple[str, int, str, str, str] | None = None,
        terminal: str = "",
        merchant: str = "",
        merchant_name: str = "",
        last_four: str = "",
        merchant_category: int = 0,
    ) -> None: ...
    @property
    def kind(self) -> int: ...
    @property
    def billing_amount(self) -> int: ...
    @property
    def billing_currency(self) -> int: ...
    @property
    def expiry(self) -> int: ...
    @property
    def advice_approved(self) -> bool: ...
    @property
    def replacement_amount(self) -> int: ...
    @property
    def replacement_billing_amount(self) -> int: ...
