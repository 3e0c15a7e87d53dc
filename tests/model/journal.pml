/* The journal on Cassandra (docs/journal.md, "On many machines"), for Spin.
 *
 * Two shards, X and Y, and three sessions. O has both shards at first, and one log for
 * both. A and B take what they like, whenever they like: there is no etcd here, and
 * nothing excludes anybody. O may give Y away as planned while its log goes on for X.
 * Paused or crashed is who takes no further step: all interleavings, no fairness.
 *
 * Three replicas, as an exact reduction: a message is applied when somebody first
 * notices, and each quorum picks its replicas freely, so a row is the number of its
 * holders, 0, 1 or 2 and more. Reading none needs 1 holder at most; reading it needs 1,
 * or a write that was issued and lands just now; an acknowledgement makes it 2. A retry
 * of the same bytes is the same write. The tail is read row by row, each at its own
 * time. A conditional write is one atomic step; one that timed out is pending, and may
 * be applied at any later time, or never.
 *
 * S1: what was answered is in the history of every later owner, at its place.
 * S2: what a sealed epoch holds is the same for all, and every quorum has it.
 * S3: a place in a shard's history is answered once.
 *
 * Each macro that begins with BREAK leaves something out: check.py says which, and
 * that each has a counterexample.
 */
#ifndef N
#define N 2                 /* rows that O appends */
#endif
#ifndef MA
#define MA 1                /* A and B, each */
#endif
#ifndef MB
#define MB 1
#endif
#ifndef RETRY
#define RETRY 1             /* seals of one taker that time out */
#endif
#ifndef TAKES
#define TAKES 1             /* shards that one taker takes */
#endif

#define X 0
#define Y 1
#define S 3                 /* sessions: O, A, B */
#define P 3                 /* rows of a log, at most */
#define G 6                 /* entries of a shard's history, at most */
#define DONE 255

#define LENGTH(s)   ((s) == 0 -> N : ((s) == 1 -> MA : MB))
#define ROW(s,p)    ((s)*P + (p))
#define EPOCH(h,s)  ((h)*S + (s))
#define ID(s,p)     ((s)*P + (p) + 1)
#define HAS(row,h)  ((row) & ((h) + 1))      /* X is bit 1, Y is bit 2 */

/* log and fences: plain quorum writes */
byte holders[9];            /* S*P */
bit  issued[9];
byte carries[9];            /* the shards that a row has records of; never changes */
byte fence[S];
bit  fencing[S];
/* sessions and epochs: conditional writes */
byte sealed[S];             /* end + 1; 0: not sealed */
byte current[2];            /* of a shard: the session whose epoch it is in */
byte moved[6];              /* of an epoch: the end of a planned move + 1 */
byte begins[6];             /* of an epoch: rows of its log before it */
byte pending_seal[S];       /* of a taker: session * 8 + end + 1 */
byte pending_move;          /* of O: end + 1 */
/* what only the owner knows */
byte length[S];             /* rows that it has issued */
byte acked[S];
byte released[S];
byte owns[S];               /* the shards that it appends entries of */
/* ghosts */
byte answered[12];          /* 2*G: the id of what was answered there */
bit  opened[6];
byte order[6];
byte orders = 1;
byte start[6];              /* the length of the history that an owner begins with */
byte history[36];           /* 2*S*G */
bit  viewed[6];
byte view[6];               /* of a sealed epoch: its rows, as bits */

inline read_row(s, p, out) {
  if
  :: holders[ROW(s,p)] <= 1 -> out = 0
  :: holders[ROW(s,p)] >= 1 -> out = 1
  :: holders[ROW(s,p)] == 0 && issued[ROW(s,p)] -> holders[ROW(s,p)] = 1; out = 1
  fi
}
inline read_fence(s, out) {
  if
  :: fence[s] <= 1 -> out = 0
  :: fence[s] >= 1 -> out = 1
  :: fence[s] == 0 && fencing[s] -> fence[s] = 1; out = 1
  fi
}

/* -- an owner ----------------------------------------------------------------------*/

inline issue(s) {           /* the next row, with records of what it owns now */
  carries[ROW(s,length[s])] = owns[s];
  issued[ROW(s,length[s])] = 1;
  length[s]++
}
inline acknowledge(s) {
  holders[ROW(s,acked[s])] = 2; acked[s]++
}

/* Everything below row n is answered. */
inline release(s, n) { atomic {
  i = released[s];
  do
  :: i < n ->
     h = 0;
     do
     :: h < 2 ->
        if
        :: HAS(carries[ROW(s,i)], h) ->
           g = start[EPOCH(h,s)]; j = begins[EPOCH(h,s)];
           do
           :: j < i -> if :: HAS(carries[ROW(s,j)], h) -> g++ :: else fi; j++
           :: else -> break
           od;
           assert(answered[h*G+g] == 0 || answered[h*G+g] == ID(s,i));      /* S3 */
           answered[h*G+g] = ID(s,i);
           j = 0;
           do
           :: j < S ->
              if
              :: opened[EPOCH(h,j)] && order[EPOCH(h,j)] > order[EPOCH(h,s)] ->
                 assert(g < start[EPOCH(h,j)]
                        && history[EPOCH(h,j)*G+g] == ID(s,i))              /* S1 */
              :: else
              fi; j++
           :: else -> break
           od
        :: else
        fi; h++
     :: else -> break
     od; i++
  :: else -> break
  od;
  if :: n > released[s] -> released[s] = n :: else fi;
  i = 0; j = 0; g = 0; h = 0; snap = 0 } }

proctype Owner() {
  do
  :: atomic { length[0] < N && length[0] == acked[0] -> issue(0) }
#ifdef BREAK_PIPELINED      /* the next row before the one before it is acknowledged */
  :: atomic { length[0] < N && length[0] > acked[0] -> issue(0) }
#endif
  :: atomic { length[0] > acked[0] -> acknowledge(0) }
  /* Planned: what is in flight is settled, then Y is given away. */
#ifdef BREAK_MOVE_IN_FLIGHT
  :: atomic { (owns[0] & 2) && length[0] > 0 ->
              pending_move = length[0] + 1; owns[0] = 1 }
#elif defined(BREAK_MOVE_UNRELEASED)
  :: atomic { (owns[0] & 2) && length[0] == acked[0] ->
              pending_move = acked[0] + 1; owns[0] = 1 }
#elif defined(BREAK_APPENDS_AFTER_MOVE)
  :: atomic { pending_move == 0 && (owns[0] & 2) && length[0] == released[0] ->
              pending_move = released[0] + 1 }
#else
  :: atomic { (owns[0] & 2) && length[0] == released[0] ->
              pending_move = released[0] + 1; owns[0] = 1 }
#endif
  :: atomic { length[0] == N && acked[0] == N && !(owns[0] & 2) -> break }
  od
}

proctype Releaser(byte s) { byte snap, i, j, g, h; bit f;
  do
#ifdef BREAK_NO_FENCE_READ
  :: atomic { acked[s] > released[s] -> snap = acked[s] }
#elif defined(BREAK_FENCE_READ_BEFORE)
  :: atomic { released[s] < LENGTH(s) -> read_fence(s, f) };
     if :: f -> break :: else fi;
     atomic { acked[s] > released[s] -> snap = acked[s] }
#elif defined(BREAK_OTHER_FENCE)    /* that of the session after it */
  :: atomic { acked[s] > released[s] -> snap = acked[s];
              if :: read_fence(s, f) :: f = 0 fi };
     if :: f -> break :: else fi
#elif defined(BREAK_ANSWERS_BEFORE_APPEND)
  :: atomic { length[s] > released[s] -> snap = length[s] }
#else
  :: atomic { acked[s] > released[s] -> snap = acked[s]; read_fence(s, f) };
     if :: f -> break :: else fi    /* fenced: answers nothing ever again */
#endif
     ;
     release(s, snap)               /* any pause between the read and the answers */
  od
}

/* -- a successor -------------------------------------------------------------------*/

inline read_tail(s) {
  do
  :: p < LENGTH(s) -> atomic { read_row(s, p, got[p]); p++ }
  :: else -> break
  od;
  p = 0
}

/* What is in the sealed epoch must be the same for everybody, at every quorum. */
inline adopt(h, s, end) { atomic {
  i = 0; x = 0;
  do
  :: i < end ->
#ifdef BREAK_NO_READING_AGAIN
     if :: got[i] == 1 && i >= begins[EPOCH(h,s)] && HAS(carries[ROW(s,i)], h) ->
           x = x | (1 << i) :: else fi;
#else
     assert(got[i] == 1 || holders[ROW(s,i)] >= 2);                         /* S2 */
     if :: i >= begins[EPOCH(h,s)] && HAS(carries[ROW(s,i)], h) ->
           x = x | (1 << i) :: else fi;
#endif
     i++
  :: else -> break
  od;
  if
  :: viewed[EPOCH(h,s)] -> assert(view[EPOCH(h,s)] == x)                    /* S2 */
  :: else -> viewed[EPOCH(h,s)] = 1; view[EPOCH(h,s)] = x
  fi;
  i = 0 } }

/* The history that `me` begins with: that of the epoch before it, and what is in it. */
inline open(h, me, prev) {
  i = 0;
  do
  :: i < start[EPOCH(h,prev)] ->
     history[EPOCH(h,me)*G+i] = history[EPOCH(h,prev)*G+i]; i++
  :: else -> break
  od;
  j = 0;
  do
  :: j < P ->
     if :: x & (1 << j) -> history[EPOCH(h,me)*G+i] = ID(prev,j); i++ :: else fi; j++
  :: else -> break
  od;
  start[EPOCH(h,me)] = i;
  i = 0;
  do
  :: i < G ->
     assert(answered[h*G+i] == 0 ||
            (i < start[EPOCH(h,me)]
             && history[EPOCH(h,me)*G+i] == answered[h*G+i]));              /* S1 */
     i++
  :: else -> break
  od;
  begins[EPOCH(h,me)] = length[me];
  order[EPOCH(h,me)] = orders; orders++; opened[EPOCH(h,me)] = 1;
  owns[me] = owns[me] | (h + 1);
  i = 0; j = 0
}

proctype Taker(byte me) { byte h, prev, p, end, i, j, x, tries, takes; byte got[P]; bit f, ok;
again:
  if
  :: takes < TAKES && !(owns[me] & 1) -> h = X
  :: takes < TAKES && !(owns[me] & 2) -> h = Y
  :: atomic { owns[me] && length[me] < LENGTH(me) -> issue(me) };
     atomic { acknowledge(me) };
     goto again
  fi;
take:
  atomic { prev = current[h]; p = 0; end = 0; ok = 0; f = 0; x = 0;
           got[0] = DONE; got[1] = DONE; got[2] = DONE };
  if
  :: d_step { moved[EPOCH(h,prev)] != 0 -> end = moved[EPOCH(h,prev)] - 1 };
     goto ended                     /* a planned move: nobody is fenced */
  :: d_step { sealed[prev] != 0 -> end = sealed[prev] - 1 };
     goto ended                     /* somebody sealed the session */
  :: skip
  fi;
fence_it:
#ifdef BREAK_TAIL_BEFORE_FENCE
  read_tail(prev);
#endif
#ifdef BREAK_OTHERS_FENCE           /* who sees a fence writes none of its own */
  if
  :: atomic { read_fence(prev, f); f -> f = 0 }
  :: fencing[prev] = 1; fence[prev] = 2
  fi;
#else
  fencing[prev] = 1;
  fence[prev] = 2;
#endif
#ifndef BREAK_TAIL_BEFORE_FENCE
  read_tail(prev);
#endif
  atomic {
    end = 0;
#ifdef BREAK_HOLES                  /* the end is the last row seen */
    i = 0;
    do
    :: i < LENGTH(prev) -> if :: got[i] == 1 -> end = i + 1 :: else fi; i++
    :: else -> break
    od;
#else
    do :: end < LENGTH(prev) && got[end] == 1 -> end++ :: else -> break od;
#endif
    i = end; do :: i < P -> got[i] = DONE; i++ :: else -> break od;
    i = 0 };
#ifndef BREAK_NO_WRITE_BACK
  /* The last row of the prefix: it was begun when those before it were acknowledged. */
  if
  :: end > 0 -> issued[ROW(prev,end-1)] = 1; holders[ROW(prev,end-1)] = 2
  :: else
  fi;
#endif
#ifdef BREAK_PLAIN_SEAL             /* look, then write */
  if
  :: d_step { sealed[prev] != 0 -> end = sealed[prev] - 1 }
  :: sealed[prev] == 0 -> sealed[prev] = end + 1
  fi;
#else
  if
  :: d_step { sealed[prev] == 0 -> sealed[prev] = end + 1 }
  :: d_step { sealed[prev] != 0 -> end = sealed[prev] - 1 }
  :: d_step { tries < RETRY && pending_seal[me] == 0 ->
              pending_seal[me] = prev*8 + end + 1; tries++; end = 0;
              got[0] = DONE; got[1] = DONE; got[2] = DONE };
     goto fence_it
  fi;
#endif
ended:
  adopt(h, prev, end);
  atomic {
#ifdef BREAK_MERELY_HIGHER          /* not "the one that I sealed and read" */
    ok = (me > current[h]);
#else
    ok = (current[h] == prev);
#endif
    if :: ok -> open(h, me, prev); current[h] = me; takes++ :: else fi };
  if
  :: ok -> goto again
#ifdef BREAK_MERELY_HIGHER
  :: else -> skip
#else
  :: else -> goto take
#endif
  fi
}

#ifdef BREAK_PUBLISHES_WHAT_IT_READ
proctype Publisher() { byte snap, i, j, g, h; bit v;
  atomic { read_row(0, 0, v); v != 0 };
  release(0, 1)
}
#endif

#define APPLY_SEAL(me) :: d_step { pending_seal[me] != 0 && pending_seal[me] != DONE ->  \
    if :: sealed[pending_seal[me]/8] == 0 ->                                             \
          sealed[pending_seal[me]/8] = pending_seal[me]%8 :: else fi;                    \
    pending_seal[me] = DONE }

proctype Network() {
  do
  APPLY_SEAL(1)
  APPLY_SEAL(2)
  :: d_step { pending_move != 0 && pending_move != DONE ->
              moved[EPOCH(Y,0)] = pending_move; pending_move = DONE }
#ifdef SUSPICION            /* a session is fenced although it lives */
  :: d_step { !fencing[0] -> fencing[0] = 1 }
  :: d_step { !fencing[1] -> fencing[1] = 1 }
#endif
#ifdef BREAK_FENCE_REMOVED
  :: d_step { current[X] != 0 && fencing[0] -> fencing[0] = 0; fence[0] = 0 }
#endif
#ifdef REACH_CHAIN          /* that it can happen: O, A and B answer of X in turn */
  :: assert(!(answered[0] == ID(0,0) && opened[EPOCH(X,1)] && released[1]
              && opened[EPOCH(X,2)] && released[2] && order[EPOCH(X,2)] > order[EPOCH(X,1)]))
#endif
#ifdef REACH_MOVE           /* Y was given away, answered elsewhere, and O answers X on */
  :: assert(!(moved[EPOCH(Y,0)] == 2 && current[Y] != 0 && released[current[Y]]
              && released[0] == 2 && current[X] == 0))
#endif
  od
}

init { atomic {
  owns[0] = 3; opened[EPOCH(X,0)] = 1; opened[EPOCH(Y,0)] = 1;
  run Network(); run Owner(); run Releaser(0);
#ifdef BREAK_PUBLISHES_WHAT_IT_READ
  run Publisher();
#endif
  run Taker(1); run Taker(2); run Releaser(1); run Releaser(2)
} }
