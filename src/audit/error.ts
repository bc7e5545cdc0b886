import { CodedError } from '../errors.ts';

/** Why an entry is not on disk, or a log cannot be opened. */
export type AuditErrorCode = 'audit_failed' | 'audit_overloaded' | 'audit_closed' | 'audit_locked' | 'audit_dir';

/** The audit log cannot do what it must. */
export class AuditError extends CodedError<AuditErrorCode> {
  constructor(code: AuditErrorCode, message: string, cause?: unknown) {
    super(code, message, { cause });
  }
}
