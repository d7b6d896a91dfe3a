/*
 * Guessing, slowed down.
 *
 * Attempts are counted in the database, so both instances know of them and a
 * restart forgets none. An attempt counts when it starts, so that many at once
 * are no way around, and is taken back when it succeeds; one that is refused
 * here does not count, so the time to wait passes whatever a client does.
 *
 * Accounts are counted by the address that was given, whether anybody has it
 * or not. What is counted over all networks, or over all accounts, slows only
 * strangers: whoever has signed in to this account from this network before is
 * not affected, so an attacker elsewhere cannot lock an owner out.
 */
#ifndef COSTER_USER_THROTTLE_H
#define COSTER_USER_THROTTLE_H

#include "shared/req.h"

/* Before a password is verified, in a transaction of its own: ERR_TOO_MANY,
 * with the seconds to wait. */
MUST_USE enum err throttle_sign_in(struct req *r, const char *email);

/* It was right; in the transaction that is open. */
MUST_USE enum err throttle_succeeded(struct req *r, const char *email);

/* Who is here has proved to own the account in another way; likewise. */
MUST_USE enum err throttle_trust(struct req *r, const char *email);

/* Before a link is mailed, in the transaction that is open: ERR_TOO_MANY when
 * this network asked for many, or this account got many. */
MUST_USE enum err throttle_mail_from(struct req *r);
MUST_USE enum err throttle_mail_to(struct req *r, const char *email);

/* Before an account is made, or has another address, which mails are sent for,
 * likewise. Administrators, services and the internal network may make many. */
MUST_USE enum err throttle_register(struct req *r);
MUST_USE enum err throttle_move(struct req *r);

/* Forgets what is counted for an account. */
MUST_USE enum err throttle_forget(struct req *r, const char *email);

/* The networks that have signed in to an account, as a JSON array. */
MUST_USE enum err throttle_put_networks(
    struct req *r, struct buf *b, const char *key, const char *email);

#endif
