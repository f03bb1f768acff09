// The shapes that the page's modules share. For tsc and for readers: no browser loads this file.

interface Message {
  id: string; // "milliseconds-number": the entry's id in the stream
  author: string | null;
  text: string;
  posted_at: string;
  edited_at?: string;
  pod: string;
}

interface Listing {
  messages: Message[]; // newest first; oldest first after a cursor
  next: string | null;
  skew: number; // how far the server's clock is behind the browser's
  cursor: string; // up to where its pod had read the stream
  // With `changes=true`
  edited?: Message[];
  deleted?: string[];
  more?: boolean;
  reset?: boolean;
}

interface Pod {
  name: string;
  version: string;
  started_at: string;
  streams: number;
  state: string;
  lab?: string[];
}

interface PodsEvent {
  pods: Pod[];
  streams: number;
  pod: string; // the one at the other end of the stream
  now?: number; // Redis's time in ms
  skew: number; // how far this was behind the browser's clock when it came
  redis?: string;
  closed?: string; // why nothing can be written now
  moderation?: string; // "before" while messages wait for a moderator
}

interface Move {
  from: string;
  to: string;
  seconds: number;
}

type State = "live" | "polling" | "away" | "reconnecting" | "offline";

/** An event from a stream, a poll or another tab; entries have an id. */
interface Item {
  name: "message" | "deleted" | "edited" | "pods" | "moved" | "state" | "ping";
  data?: any;
  id?: string;
  after?: string; // the cursor before it: for another tab to see whether it missed something
}

interface RequestOptions {
  key?: string; // the Idempotency-Key
  token?: string;
  body?: object;
  keepalive?: boolean;
  ms?: number; // how long to wait for the answer
  abort?: AbortController;
}

interface Problem {
  field: string; // "form" where the reason lies in none of the fields
  reason: string;
}

/** The server's answer to a message that it does not take (RFC 9457). */
interface ProblemDetails {
  status: number | "stale" | "other";
  code?: string;
  detail?: string;
  errors?: { field?: string; code?: string; numbers?: Record<string, number> }[];
}

interface Draft {
  key: string; // its Idempotency-Key
  text: string;
  author: string;
  at: number;
  held?: string; // its id while it waits to be approved
  refused?: Problem;
}

type Obstacle = "unreachable" | "busy" | "often";

/** Why the outbox waits, and for how many milliseconds. */
interface Delay {
  why: Obstacle;
  ms: number;
}

interface Outcome {
  message?: Message;
  held?: Message;
  problem?: ProblemDetails;
  why?: Obstacle;
  seconds?: number;
}

interface Settled {
  key: string;
  message: Message;
}

/** The state that a tab needs to continue. */
interface CatchUp {
  after: string;
  items?: Item[]; // missing where the leader does not reach back that far
  pods?: Item;
  state: State;
  deleted: string[];
}

/** A message from one tab to the others: exactly one of these. */
interface TabMessage {
  item?: Item;
  hello?: string; // a tab's cursor: answered with catchUp
  catchUp?: CatchUp;
  led?: true; // another tab leads now
  renew?: true; // the list was read again: do so, too
  sending?: string; // a draft's key
  waiting?: Delay;
  settled?: Settled;
}

/** The switches of moderators: closed to new messages, and moderation. */
interface Control {
  closed: string | null;
  moderation: string | null;
  moderation_setting: string;
}

type What = "approve" | "refuse" | "delete" | "ban";

/** A moderator's, about the message of this id. */
interface Decision {
  what: What;
  id: string;
  text: string; // its beginning
  seconds?: number; // of a ban
  due: number; // when it is sent
  isFlushed?: boolean; // sent without waiting for the answer
}

/** The events on the bus: their names and details. */
interface PageEvents {
  // In the stream's order, whatever brings them
  message: Message;
  deleted: { id: string };
  edited: Message;
  pods: PodsEvent;
  moved: Move;
  state: State;
  ping: undefined;
  // The newest page of the list, read again; `isNews` where the page had a list before
  listing: Listing & { isNews: boolean };
  // Between tabs: to the others, and from them
  broadcast: TabMessage;
  sending: string;
  waiting: Delay;
  settled: Settled;
  // This browser wrote something that is at the guestbook
  own: undefined;
  // From the outbox to the form
  emptied: { isSent: boolean; isHeld: boolean };
  delayed: Obstacle;
  refused: Draft;
  // On the page of moderators
  signedIn: Control;
  signedOut: undefined;
  reached: boolean; // whether the server answered
  held: { messages: Message[]; waiting: number }; // those that wait, and how many there are in all
  undoable: boolean; // whether there is a decision that can be undone
  decided: { decision: Decision; isDone: boolean }; // `isDone` unless it was too late
  switched: undefined;
}
