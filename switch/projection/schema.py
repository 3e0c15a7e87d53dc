"""The tables of readmodel.db. Who queries them may lean on these names.

Money is in minor units, times are milliseconds since 1970 (UTC), tokens are the keyed
hashes of PANs in hex, as in the events.
"""

APPLICATION_ID = 0x73775231  # "swR1"
VERSION = 2

TABLES = """
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    shard INTEGER NOT NULL,
    currency TEXT NOT NULL,
    balance INTEGER NOT NULL,
    held INTEGER NOT NULL,
    credit_limit INTEGER NOT NULL,
    available INTEGER AS (balance + credit_limit - held) VIRTUAL,
    status TEXT NOT NULL DEFAULT 'active',
    opened_at INTEGER NOT NULL
) STRICT;
CREATE TABLE cards (
    token TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    last_four TEXT NOT NULL,
    expiry TEXT NOT NULL,
    status TEXT NOT NULL,
    issued_at INTEGER NOT NULL
) STRICT;
CREATE TABLE transactions (
    -- almost in time order over all shards, which keeps inserting cheap
    place INTEGER PRIMARY KEY,
    shard INTEGER AS (place & 65535) VIRTUAL,
    sequence INTEGER AS (place >> 16) VIRTUAL,
    id TEXT AS ((place & 65535) || '-' || (place >> 16)) VIRTUAL,
    commit_number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    account TEXT,
    token TEXT,
    last_four TEXT,
    amount INTEGER,
    currency TEXT,
    balance_change INTEGER NOT NULL,
    held_change INTEGER NOT NULL,
    approved INTEGER,
    response_code TEXT,
    mti TEXT,
    stan TEXT,
    rrn TEXT,
    merchant TEXT,
    merchant_name TEXT,
    mcc TEXT,
    terminal TEXT,
    transaction_amount INTEGER,
    transaction_currency TEXT,
    original_place INTEGER,
    -- of an adjustment: who and why
    operator TEXT,
    reason TEXT
) STRICT;
CREATE TABLE position (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    journal BLOB NOT NULL,
    commit_number INTEGER NOT NULL
) STRICT;
"""

# Of a cluster: how far each shard is in. There `position.commit_number` is how many
# entries that makes, and `transactions.commit_number` a number in the log of whoever
# had the shard. Accounts and cards have all up to `base`; those that are known from
# there alone were opened and issued at 0.
SHARDS = """
CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    base INTEGER NOT NULL,
    position BLOB
) STRICT;
"""

# Made when the rows have caught up with the journal: one after the other over all
# rows they cost a fraction of what they cost row by row. There is none of the tokens:
# like the one of the accounts it would touch a page a row, and a card's account is
# known (`account = (SELECT account FROM cards WHERE token = …) AND token = …`).
INDICES = {
    "cards_account": "cards (account)",
    "transactions_account": "transactions (account, at)",
    "transactions_rrn": "transactions (rrn)",
    "transactions_stan": "transactions (stan)",
    "transactions_at": "transactions (at)",
}

INSERT_ACCOUNT = """
INSERT INTO accounts (
    account, shard, currency, balance, held, credit_limit, opened_at
) VALUES (?, ?, ?, ?, 0, ?, ?)
"""
INSERT_CARD = """
INSERT INTO cards (token, account, last_four, expiry, status, issued_at)
VALUES (?, ?, ?, ?, ?, ?)
"""
INSERT_TRANSACTION = """
INSERT INTO transactions (
    place, commit_number, at, kind, account, token, last_four, amount, currency,
    balance_change, held_change, approved, response_code, mti, stan, rrn, merchant,
    merchant_name, mcc, terminal, transaction_amount, transaction_currency,
    original_place
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
MOVE_MONEY = """
UPDATE accounts SET balance = balance + ?, held = held + ? WHERE account = ?
"""
INSERT_ADJUSTMENT = """
INSERT INTO transactions (
    place, commit_number, at, kind, account, amount, currency, balance_change,
    held_change, operator, reason
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?)
"""
# Of the accounts and cards as they were changed, in order.
CHANGE_LIMIT = "UPDATE accounts SET credit_limit = ? WHERE account = ?"
CHANGE_ACCOUNT_STATUS = "UPDATE accounts SET status = ? WHERE account = ?"
CHANGE_STATUS = "UPDATE cards SET status = ? WHERE token = ?"
CHANGE_EXPIRY = "UPDATE cards SET expiry = ? WHERE token = ?"
ADVANCE = "UPDATE position SET commit_number = ?"

# Of a cluster's.
READ_SHARDS = "SELECT shard, position, base FROM shards"
WRITE_SHARD = """
INSERT INTO shards (shard, sequence, base, position) VALUES (?, ?, ?, ?)
ON CONFLICT (shard) DO UPDATE SET
    sequence = excluded.sequence, base = excluded.base, position = excluded.position
"""
REPLACE_ACCOUNT = """
INSERT INTO accounts (
    account, shard, currency, balance, held, credit_limit, status, opened_at
) VALUES (?, ?, ?, ?, ?, ?, ?, 0)
ON CONFLICT (account) DO UPDATE SET
    balance = excluded.balance, held = excluded.held,
    credit_limit = excluded.credit_limit, status = excluded.status
"""
REPLACE_CARD = """
INSERT INTO cards (token, account, last_four, expiry, status, issued_at)
VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT (token) DO UPDATE SET expiry = excluded.expiry, status = excluded.status
"""
