import { type Logger, pino } from 'pino';

/** The operational log: what the process does, never what a request holds. One JSON line an event, to standard error. */
export type Log = Pick<Logger, 'info' | 'warn' | 'error' | 'debug'>;

/** The least severe event that is written. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Makes the log of a process. */
export function openLog(level: LogLevel): Log {
  return pino({ level, base: { name: 'stepgate' }, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ dest: 2, sync: true }));
}
